"""The circuit breaker of Redis: how this process remembers that Redis is away.

A failure of Redis never breaks a caller that enqueues. While the breaker is open, its pushes are skipped, so that
enqueueing stays fast; the leader pushes those jobs later.
"""

from __future__ import annotations

from queue_app import clock
from queue_app.dispatch import connection
from queue_app.lifecycle.store_outage import StoreOutage

#: Seconds for which pushes are skipped after one of them failed.
OPEN_SECONDS = 1.0


class RedisBreaker:
    """What one process knows of the health of its Redis. It sends one signal when an outage begins, and one when it
    ends."""

    def __init__(self) -> None:
        self._outage = StoreOutage("redis", connection.explain)
        self.reset()

    def reset(self) -> None:
        """Forget all outages: the breaker is closed, and Redis counts as reachable."""
        self._outage.reset()
        self._retry_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether a push would be skipped now."""
        return bool(self._retry_at) and clock.seconds() < self._retry_at

    def open(self, error: BaseException) -> None:
        """A push failed: skip the pushes of the next `OPEN_SECONDS`.

        Args:
            error: why it failed, for the signal.
        """
        self._retry_at = clock.seconds() + OPEN_SECONDS
        self.failed(error)

    def close(self) -> None:
        """A push succeeded."""
        self._retry_at = 0.0
        self.answered()

    def failed(self, error: BaseException) -> None:
        """A call failed. The first failure of an outage sends `store_lost`.

        Args:
            error: why. A call that Redis refused does not count: Redis answered.
        """
        if isinstance(error, connection.Fenced | connection.DataLost | connection.Full):
            return
        self._outage.failed(error)

    def answered(self) -> None:
        """A call succeeded. The first one after an outage sends `store_returned` with the downtime in seconds."""
        self._outage.answered()


#: The one of this process. All threads share it.
breaker = RedisBreaker()
