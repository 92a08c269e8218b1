"""What is said to operators' machines: log lines. Listens to the signals; nothing calls it.

It may import the signals and `domain`."""
