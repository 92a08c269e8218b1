"""Reads for people: what the faces show, worded once for all of them. The API, the admin and pages call these.
May import `maintenance`, `lifecycle` and all above. Changes nothing."""
