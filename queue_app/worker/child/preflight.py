"""Preflight: whether a claimed job may still begin.

It may not if it was cancelled, or if another child may have it. The latter happens when Redis lost its data, or when
this process stood still for so long that others took over its jobs.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from django.db import Error

from queue_app import clock, conf
from queue_app.dispatch import connection
from queue_app.dispatch.holder import Holder
from queue_app.domain.delivery import Delivery
from queue_app.lifecycle import cancel, database
from queue_app.lifecycle.store_health import is_outage
from queue_app.worker.child.backoff import Backoff
from queue_app.worker.child.claims import ClaimSet
from queue_app.worker.child.prefetch import Prefetch
from queue_app.worker.child.recorder import Recorder
from queue_app.worker.child.running import RunningJobs
from queue_app.worker.shared_state import SharedState

logger = logging.getLogger(__name__)


class Preflight:
    """Checks what one child has claimed before it begins.

    Args:
        shared: the worker's shared state; the keeper counts there what children must check.
        index: the child's index in it.
        holder: the name under which the child holds jobs.
        queues: names of the queues that the child serves.
        stopping: whether the child was told to stop.

    Attributes:
        stale_seconds: after so long without a claim, claims are stale: others may have taken them over.
    """

    def __init__(
        self,
        shared: SharedState,
        index: int,
        holder: Holder,
        queues: Sequence[str],
        *,
        claims: ClaimSet,
        prefetch: Prefetch,
        running: RunningJobs,
        recorder: Recorder,
        stopping: Callable[[], bool],
    ) -> None:
        self.stale_seconds = conf.get().LEASE / 2
        self._shared = shared
        self._index = index
        self._holder = holder
        self._queues = queues
        self._claims = claims
        self._prefetch = prefetch
        self._running = running
        self._recorder = recorder
        self._stopping = stopping
        self._lock = threading.Lock()
        #: The recheck count at which data loss was last checked for.
        self._loss_checked_at = self.recheck_count

    @property
    def recheck_count(self) -> int:
        """The keeper's counter for this child. It changes when claimed jobs have to be checked again."""
        return int(self._shared.recheck_counter[self._index])

    def may_start(self, delivery: Delivery) -> bool:
        """Check this job, and all that is prefetched with it.

        When a store is away, jobs start unchecked unless they are known to be revoked. The next job checks again, and
        a job that was cancelled is interrupted.
        """
        self._running.forbid_marking(delivery)  # another child may have it
        with self._lock:
            count = self.recheck_count
            unstarted = [delivery, *self._prefetch.unstarted()]
            try:
                self._check(delivery, unstarted)
            except (Error, *connection.Unavailable) as error:
                said = connection.said(error)
                logger.warning("Claimed jobs could not be checked before they start: %s", said)
                database.refresh(close=True)
            else:
                for checked in unstarted:
                    checked.recheck_seen = count
            finally:
                self._running.allow_marking(delivery)
        return delivery.id not in self._claims.revoked

    def check_data_loss(self) -> None:
        """If the keeper says that Redis lost its data, the claims have to be reconciled."""
        count = self.recheck_count
        if self._shared.is_data_loss_flagged(count, self._loss_checked_at):
            self._claims.mark_unsure(self._queues)
            self._loss_checked_at = count

    def _check(self, delivery: Delivery, unstarted: list[Delivery]) -> None:
        client = connection.client()
        claims = self._claims
        self.check_data_loss()
        if clock.seconds() - claims.since > self.stale_seconds:
            claims.mark_unsure(self._queues)
        if claims.needs_reconcile:
            with claims.lock:
                claims.reconcile(client)
        if marked := cancel.marked_cancelled(client, unstarted):
            self._end_cancelled(delivery, marked)

    def _end_cancelled(self, delivery: Delivery, marked: list[Delivery]) -> None:
        """End the jobs that were cancelled before they began.

        Args:
            delivery: the job that is about to begin.
            marked: the deliveries whose jobs were cancelled.

        Raises:
            Unavailable (see dispatch.connection), Error: check the others again.
        """
        ended = self._record_cancelled(delivery, {d.id: d.number for d in marked})
        self._claims.revoke(ended)
        cancel.let_go(connection.client(), self._holder, [d for d in marked if d.id in ended])
        self._claims.confirm(ended)

    def _record_cancelled(self, delivery: Delivery, numbers: dict[str, int]) -> set[str]:
        """Record jobs as cancelled; returns the ids of those that were.

        A try may be carried out although its answer is lost. So once it was tried for `delivery`, that job must not
        begin: the database is asked until it answers, or until the child has to stop.
        """
        waiting = Backoff(self._recorder)
        while True:
            try:
                ended = cancel.end_unstarted(numbers)
                break
            except Error as error:
                database.refresh(close=True)
                if delivery.id not in numbers or not is_outage(error):
                    raise
                if self._stopping():
                    # Who takes back this child's jobs reconciles it, and ends it then.
                    self._claims.revoke({delivery.id})
                    raise
                waiting.failed(error)
        waiting.over()
        return ended
