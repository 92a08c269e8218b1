"""Reads for people: what the faces show, worded once for all of them. Changes nothing.

The API, the admin, commands and pages call it. It may import maintenance and all that this may."""
