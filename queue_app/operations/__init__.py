"""Verbs for people and machines: each checks its right, writes its audit event, and then acts, in one transaction.

The API, the admin, commands and a project's own code call it, and nothing below it, to change anything. It may import
queries and what these may import."""
