"""A Django project that runs the queue: settings, demo tasks, urls."""
