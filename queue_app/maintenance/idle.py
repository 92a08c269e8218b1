"""Idle queues leave the list of queues in Redis, so that it does not grow for ever."""

from __future__ import annotations

import time

from queue_app.dispatch import listing, workers
from queue_app.maintenance.duty import LeaderTerm
from queue_app.models import Queue
from queue_app.models.sql import write_alias

#: Seconds after which a queue is forgotten if nothing happens in it.
AFTER = 600.0
#: Most queues forgotten at once.
MAX_QUEUES_FORGOTTEN = 1_000


class Idle:
    """Which queues are idle, and since when that has been seen here."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def forget(self, term: LeaderTerm, idle: set[str]) -> int:
        """Forget those that have been idle for long, unless a worker serves them or an operator has said something of
        them.

        Args:
            idle: the queues in which there is nothing to do now, and nothing has happened since the last call.

        Returns:
            How many were forgotten.
        """
        now = time.monotonic()
        self._since = {name: self._since.get(name, now) for name in idle}
        old = [name for name, since in self._since.items() if now - since >= AFTER]
        if not old:
            return 0
        served = {name for worker in workers.listed(term.client) for name in worker.queues}
        rows = Queue.objects.using(write_alias()).values_list("name", flat=True)
        stay = served.union(*(rows.filter(name__in=part) for part in listing.parts(old)))
        # Their time begins anew, so that they are not asked about each time.
        self._since |= {name: now for name in old if name in stay}
        gone = [name for name in old if name not in stay][:MAX_QUEUES_FORGOTTEN]
        term.check()
        return listing.forget(term.client, gone)
