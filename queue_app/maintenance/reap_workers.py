"""Reap: take over from workers whose heartbeat is older than the lease."""

from __future__ import annotations

import time
from collections.abc import Callable

from queue_app import conf
from queue_app.dispatch.workers import Listed
from queue_app.lifecycle.recovery import recover
from queue_app.maintenance.duty import Duty, LeaderTerm

#: Seconds between two looks.
INTERVAL_SECONDS = 2.0
#: A heartbeat older than this part of the lease is late: a keeper beats five times in each.
LATE_SHARE_OF_LEASE = 0.4


class LateHeartbeats:
    """Whose heartbeat is late, and since when that has been seen.

    After Redis stood still for longer than the lease every heartbeat is older than that, of the living too. So nobody
    is buried at first sight: the same late heartbeat must be seen twice, while Redis answers. The living beat in
    between.

    Args:
        monotonic: the clock, in seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._seen: dict[
            str, tuple[float, float]
        ] = {}  # worker id → its heartbeat, when it was first seen to be late
        self._looked_at = 0.0
        self._next_unlisted = 0.0

    def is_time_for_unlisted(self) -> bool:
        """Whether to look for workers that are not listed: three times in a lease, as it takes a look at all queues."""
        if self._looked_at < self._next_unlisted:
            return False
        self._next_unlisted = self._looked_at + conf.get().LEASE / 3
        return True

    def begin_check(self) -> None:
        """A look begins. After a longer pause (a store or this process stood still) it is a first one again."""
        now = self._monotonic()
        if now - self._looked_at > 3 * INTERVAL_SECONDS:
            self._seen.clear()
        self._looked_at = now

    def is_confirmed(self, worker: Listed, age: float) -> bool:
        """Whether this heartbeat, `age` seconds old, was late at an earlier look already."""
        if age <= LATE_SHARE_OF_LEASE * conf.get().LEASE:
            self._seen.pop(worker.id, None)
            return False
        beat, since = self._seen.get(worker.id, (0.0, 0.0))
        if beat != worker.beat:
            self._seen[worker.id] = (worker.beat, self._looked_at)
            return False
        return self._looked_at - since >= INTERVAL_SECONDS / 2


class Reap:
    """The duty, and whom it suspects."""

    def __init__(self) -> None:
        self._late = LateHeartbeats()

    def run(self, term: LeaderTerm) -> int:
        """Bury the silent.

        Returns:
            How many workers were buried.
        """
        if term.lost:
            return 0  # what is held there is stale; the rebuild comes first
        self._late.begin_check()
        count = recover.reap(
            term.client,
            term.leader_id,
            self._late.is_confirmed,
            check=term.check,
            keep=term.keep,
            over=lambda: term.over,
            unlisted=self._late.is_time_for_unlisted(),
        )
        term.unfinished = count > 0 and term.over
        return count


REAP = Duty(
    "reap", INTERVAL_SECONDS, Reap().run, "takes over what workers without a heartbeat held", urgent=True
)
