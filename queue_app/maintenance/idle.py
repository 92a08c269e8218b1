"""Removes idle queues from the list of queues in Redis, so that the list does not grow for ever."""

from __future__ import annotations

import time

from queue_app.dispatch import listing, workers
from queue_app.maintenance.leader_term import LeaderTerm
from queue_app.models import Queue
from queue_app.models.sql import write_alias

#: Seconds after which a queue is forgotten if nothing happens in it.
FORGET_AFTER_SECONDS = 600.0
#: Most queues forgotten at once.
MAX_QUEUES_FORGOTTEN = 1_000


class IdleQueues:
    """Which queues are idle, and since when this leader has seen it."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}  # queue → when it was first seen idle (monotonic)

    def forget(self, term: LeaderTerm, idle: set[str]) -> int:
        """Remove queues that have been idle for `FORGET_AFTER_SECONDS`. A queue stays if a worker serves it, or if it
        has a row.

        Args:
            idle: queues without work in which nothing happened since the last call.

        Returns:
            How many were removed.
        """
        now = time.monotonic()
        self._since = {name: self._since.get(name, now) for name in idle}
        old = [name for name, since in self._since.items() if now - since >= FORGET_AFTER_SECONDS]
        if not old:
            return 0
        served = {name for worker in workers.listed(term.client) for name in worker.queues}
        rows = Queue.objects.using(write_alias()).values_list("name", flat=True)
        stay = served.union(*(rows.filter(name__in=part) for part in listing.parts(old)))
        # Their time begins again, so that they are not looked up at every call.
        self._since |= {name: now for name in old if name in stay}
        gone = [name for name in old if name not in stay][:MAX_QUEUES_FORGOTTEN]
        term.check()
        return listing.forget(term.client, gone)
