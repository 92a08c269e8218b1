"""What authors of tasks use, and how calls of a task become rows. Backends, schedules and faces call it; it may import
the lifecycle and all layers above it (docs/internals.md)."""
