"""Schedules: what a tick enqueues, and what operators may do to a schedule. Duties and faces call it; it may import all
layers above it (docs/internals.md)."""
