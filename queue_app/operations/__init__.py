"""Verbs for people and machines: each checks its right, writes its audit event in the transaction of its effect, and
acts through `lifecycle`. The API, the admin, commands and a project's own code call these, and nothing below them, to
change anything. May import `lifecycle` and all above it, and no face."""
