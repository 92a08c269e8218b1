"""The hot path: Redis lists that carry the ids of jobs that wait, and the scripts that move them.

The lifecycle, maintenance and the worker call it. It may import `domain`, and never a model."""
