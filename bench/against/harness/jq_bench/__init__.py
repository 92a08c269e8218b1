"""What a comparison runs inside each version: its tasks, its settings and its agent.

This package is on the path of both versions, so it may use only what every version has: `manage.py`, the project's
settings, Django's Tasks API with `enqueue_many`, the models `Job` and `Attempt`, and the REST API.
"""
