"""The stores: whether they answer, and what may be said to whom of an error of theirs."""

from __future__ import annotations

from queue_app.dispatch import connection
from queue_app.dispatch.connection import said, unavailable
from queue_app.lifecycle.store_health import explain, is_outage

__all__ = ["explain", "is_outage", "redis_answers", "said", "unavailable"]


def redis_answers(timeout: float) -> bool:
    """Whether Redis answers within so many seconds.

    Raises:
        Unavailable (see dispatch.connection): it does not.
        ImproperlyConfigured: its address is wrong.
    """
    return bool(connection.client(timeout).ping())
