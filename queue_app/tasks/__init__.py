"""What authors of tasks use, and how calls of a task become rows.

The Tasks API, schedules, operations and the worker call it. It may import the lifecycle, models and the dispatch."""
