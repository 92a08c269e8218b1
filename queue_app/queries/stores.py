"""Whether the stores answer, and which text of their errors may be shown."""

from __future__ import annotations

from queue_app.dispatch import connection
from queue_app.dispatch.connection import said, unavailable
from queue_app.lifecycle.store_health import explain, is_outage

__all__ = ["explain", "is_outage", "redis_answers", "said", "unavailable"]


def redis_answers(timeout: float) -> bool:
    """Whether Redis answers within `timeout` seconds.

    Raises:
        Unavailable (see dispatch.connection): it does not.
        ImproperlyConfigured: its address is wrong.
    """
    return bool(connection.client(timeout).ping())
