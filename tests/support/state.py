"""All that this process remembers between two calls, reset in one place."""

from __future__ import annotations

from queue_app import health
from queue_app.dispatch import connection
from queue_app.lifecycle.push import listed_queues
from queue_app.lifecycle.queue_defaults import queue_defaults
from queue_app.lifecycle.redis_breaker import breaker


def forget_stores() -> None:
    """Forget outages, connections, and what was read of queues and migrations."""
    breaker.reset()
    listed_queues.reset()
    queue_defaults.reset()
    connection.forget()
    health.probe.reset()
