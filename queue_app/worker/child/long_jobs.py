"""Long jobs: their rows say that they run, and what was claimed behind them goes back to its queue."""

from __future__ import annotations

from queue_app import clock, conf
from queue_app.domain.delivery import Delivery
from queue_app.lifecycle import settle
from queue_app.models.sql.rows import Start
from queue_app.worker.child.claims import ClaimSet
from queue_app.worker.child.prefetch import Prefetch
from queue_app.worker.child.running import RunningJobs


class LongJobs:
    """Looks after the long jobs of one child. The recorder calls `tick` in its thread.

    Args:
        running: what runs in the child.
        prefetch: what waits in the child.
        claims: what the child holds.
        worker_id: of the child's worker.
        slots: how many jobs the child runs at once.
    """

    def __init__(
        self, running: RunningJobs, prefetch: Prefetch, claims: ClaimSet, worker_id: str, slots: int
    ) -> None:
        self._running = running
        self._prefetch = prefetch
        self._claims = claims
        self._worker_id = worker_id
        self._slots = slots
        #: Slot → the delivery and progress that its row says already.
        self._marked: dict[int, tuple[Delivery, str | None]] = {}

    def tick(self) -> None:
        """Mark long jobs as running, with their progress. Give back prefetched jobs that wait behind long ones.

        Raises:
            Unavailable (see dispatch.connection), Error: a store failed; the next tick tries again.
        """
        now = clock.seconds()
        limits = conf.get()
        starts = []
        long_ones = 0
        for slot, delivery, started_at, may_mark in self._running.markable():
            seconds = now - started_at
            long_ones += seconds >= limits.LONG_JOB
            if not may_mark or seconds < limits.RUNNING_AFTER:
                continue
            progress = self._running.progress_of.get(delivery.id)
            if self._marked.get(slot) != (delivery, progress):
                starts.append(Start(delivery.id, delivery.number, started_at, progress))
                self._marked[slot] = (delivery, progress)
        if long_ones >= self._slots:
            self._prefetch.long_job()
            self._claims.give_back(self._prefetch.drain())
        elif self._prefetch.waited() >= limits.LONG_JOB:
            # The jobs are slower than those by which the batch size was chosen.
            self._claims.give_back(self._prefetch.drain())
        if starts:
            try:
                settle.mark_running(starts, self._worker_id)
            except BaseException:
                self._marked.clear()  # the next tick tries again
                raise
