"""Django's Tasks API (`django.tasks`, or its backport): what differs between its homes, and results of our jobs.

`queue_app.backend` and the worker call it. It may import `tasks` and what that may import."""
