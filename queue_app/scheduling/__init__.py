"""Schedules: what a tick enqueues, and what operators may do to a schedule.

Maintenance and operations call it. It may import `tasks` and what that may import."""
