"""Pages to watch the queue with."""
