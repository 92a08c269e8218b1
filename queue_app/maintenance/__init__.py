"""Duties that one elected leader does for all workers: one duty, one file.

The worker and the command `runmaintenance` run them. It may import the lifecycle and scheduling."""
