"""Recovers the jobs of workers whose heartbeat is older than the lease."""

from __future__ import annotations

import time
from collections.abc import Callable

from queue_app import conf
from queue_app.dispatch.workers import Listed
from queue_app.lifecycle.recovery import recover
from queue_app.maintenance.duty import Duty
from queue_app.maintenance.leader_term import LeaderTerm

#: Seconds between two checks.
INTERVAL_SECONDS = 2.0
#: A heartbeat older than this share of the lease is late: a keeper beats five times in each lease.
LATE_SHARE_OF_LEASE = 0.4


class LateHeartbeats:
    """Whose heartbeat is late, and since when this leader has seen it.

    After Redis stood still for longer than the lease, every heartbeat is older than that, also of living workers. So a
    worker counts as dead only when the same late heartbeat was seen in two checks while Redis answers: a living worker
    beats in between.

    Args:
        monotonic: the clock, in seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._late: dict[
            str, tuple[float, float]
        ] = {}  # worker id → its heartbeat, when that was first seen late
        self._checked_at = 0.0
        self._unlisted_at = 0.0

    def is_time_for_unlisted(self) -> bool:
        """Whether to look for workers that are not listed. That is three times in a lease, as all queues have to be
        asked."""
        if self._checked_at < self._unlisted_at:
            return False
        self._unlisted_at = self._checked_at + conf.get().LEASE / 3
        return True

    def begin_check(self) -> None:
        """A check begins. After a long pause (a store or this process stood still) it counts as the first one."""
        now = self._monotonic()
        if now - self._checked_at > 3 * INTERVAL_SECONDS:
            self._late.clear()
        self._checked_at = now

    def is_confirmed(self, worker: Listed, age: float) -> bool:
        """Whether this heartbeat was late at an earlier check already.

        Args:
            age: of the heartbeat, in seconds.
        """
        if age <= LATE_SHARE_OF_LEASE * conf.get().LEASE:
            self._late.pop(worker.id, None)
            return False
        beat, since = self._late.get(worker.id, (0.0, 0.0))
        if beat != worker.beat:
            self._late[worker.id] = (worker.beat, self._checked_at)
            return False
        return self._checked_at - since >= INTERVAL_SECONDS / 2


class ReapWorkers(Duty):
    """Checks the heartbeats of all workers."""

    name = "reap"
    interval = INTERVAL_SECONDS
    doc = "takes over what workers without a heartbeat held"
    urgent = True

    def __init__(self) -> None:
        self._late = LateHeartbeats()

    def run(self, term: LeaderTerm) -> int:
        """Recover the jobs of workers whose heartbeat expired.

        Returns:
            How many workers were reaped.
        """
        if term.needs_rebuild:
            return 0  # what Redis says of their jobs is stale
        self._late.begin_check()
        count = recover.reap(
            term.client,
            term.leader_id,
            self._late.is_confirmed,
            check=term.check,
            keep_alive=term.keep_alive,
            out_of_time=term.out_of_time,
            unlisted=self._late.is_time_for_unlisted(),
        )
        term.unfinished = count > 0 and term.out_of_time()
        return count
