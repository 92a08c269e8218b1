"""Schedules: jobs that are enqueued again and again, each time at a tick; and what operators may do to a schedule.

Maintenance and operations call it. It may import `tasks` and what that may import."""
