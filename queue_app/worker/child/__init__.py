"""A child: the process that claims jobs, runs them in its slots, and records what came of them.

The supervisor starts it; a drain runs one in its own process. It may import what `worker` may."""
