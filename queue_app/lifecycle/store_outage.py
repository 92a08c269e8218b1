"""An outage of a store, as one process sees it: a signal when it begins, and one when it ends."""

from __future__ import annotations

from collections.abc import Callable

from queue_app import clock, signals


class StoreOutage:
    """Remembers since when a store is away.

    Args:
        store: "redis" or "database".
        explain: words an error for the signal.
    """

    def __init__(self, store: str, explain: Callable[[BaseException], str]) -> None:
        self._store = store
        self._explain = explain
        self.reset()

    def reset(self) -> None:
        """Forget an outage: the store counts as reachable."""
        self._down_since: float | None = None

    def failed(self, error: BaseException) -> None:
        """A call failed. The first failure of an outage sends `store_lost`."""
        if self._down_since is None:
            self._down_since = clock.seconds()
            signals.store_lost.send_robust(sender=None, store=self._store, error=self._explain(error))

    def answered(self) -> None:
        """A call succeeded. The first one after an outage sends `store_returned` with the downtime in seconds."""
        if self._down_since is not None:
            downtime, self._down_since = clock.seconds() - self._down_since, None
            signals.store_returned.send_robust(sender=None, store=self._store, downtime=downtime)
