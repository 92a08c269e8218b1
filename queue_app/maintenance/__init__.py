"""Duties that one elected leader does for all workers: one class a duty, one file a class.

The worker and the command `runmaintenance` run them. It may import the lifecycle and scheduling."""
