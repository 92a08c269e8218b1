"""The recorder: writes the outcomes that have gathered in one transaction, then acknowledges them to Redis.

No timers: while one commit is under way, the next group gathers (DESIGN §4). When the database is away, or refuses
writes, outcomes are kept and repeated, and the child claims nothing. After an acknowledgement that fails, the claims
are reconciled. Nothing is acknowledged that is not recorded.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable

from django.db import Error, connections

from queue_app import conf
from queue_app.dispatch import connection
from queue_app.dispatch.holder import Holder
from queue_app.domain.outcome import Outcome
from queue_app.lifecycle import settle, store_health
from queue_app.lifecycle.database import refresh
from queue_app.lifecycle.store_outage import StoreOutage
from queue_app.worker.child.backoff import FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS
from queue_app.worker.child.claims import ClaimSet
from queue_app.worker.child.outcome_writer import OutcomeWriter

logger = logging.getLogger(__name__)


class Recorder:
    """Records the outcomes of one child.

    Args:
        worker_id, holder: who ran them, and under which name they are held.
        tick: called about every `conf.LONG_JOB` seconds while jobs run; it marks and gives back.
        claims: what the child has claimed and not released.
    """

    def __init__(
        self,
        worker_id: str,
        holder: Holder,
        tick: Callable[[], None] | None = None,
        claims: ClaimSet | None = None,
    ) -> None:
        self._worker_id = worker_id
        self._holder = holder
        self._tick = tick
        self._waiting: deque[Outcome] = deque()
        self._settled: deque[tuple[Outcome, bool]] = deque()
        self._claims = claims or ClaimSet(holder)
        self._writer = OutcomeWriter(worker_id, self)
        self._wake = threading.Event()
        self._room = threading.Event()
        self._room.set()
        self._asleep = False
        self._ticking = False
        self._stopping = False
        self._pause = FIRST_PAUSE_SECONDS
        self._limit = 2 * conf.get().SETTLE_MAX
        self._outage = StoreOutage("database", store_health.explain)
        self._thread: threading.Thread | None = None
        #: Cleared while the database is away: nothing may be claimed then, and no atomic job begun.
        self.can_record = threading.Event()
        self.can_record.set()

    # called by executors

    def put(self, outcome: Outcome) -> None:
        """Hand over an outcome; waits while far too many are unrecorded."""
        self._waiting.append(outcome)
        if self._asleep:
            self._wake.set()
        while len(self._waiting) >= self._limit and not self._stopping:
            self._room.clear()
            self._wake.set()
            if (
                len(self._waiting) >= self._limit
            ):  # looked at again: it may have been emptied before the clear
                self._room.wait(0.5)

    def put_settled(self, outcome: Outcome, counted: bool) -> None:
        """Hand over an outcome that needs no recording any more: only Redis and the signals are still to know.

        Args:
            counted: whether the record took it; if not, the job is another delivery's.
        """
        self._settled.append((outcome, counted))
        if self._asleep:
            self._wake.set()

    def watch(self) -> None:
        """A job begins: tick until none is left (see `rest`)."""
        self._ticking = True
        if self._asleep:
            self._wake.set()

    def rest(self) -> None:
        """No job runs any more: no more ticks."""
        self._ticking = False

    # the thread

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run_or_die, name="recorder", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Record all that is there, acknowledge it, and end."""
        self._stopping = True
        self._wake.set()
        self._room.set()
        if self._thread is not None:
            self._thread.join()

    def _run_or_die(self) -> None:
        try:
            self._run()
        except BaseException:
            # A child that cannot record must not go on: it is replaced, and the keeper takes back what it held.
            logger.exception("The recorder failed; this child ends.")
            logging.shutdown()
            os._exit(70)  # EX_SOFTWARE

    def _run(self) -> None:
        period = conf.get().LONG_JOB
        next_tick = time.monotonic() + period
        while True:
            if not self._waiting and not self._settled and not self._stopping:
                self._asleep = True
                if not self._waiting and not self._settled and not self._stopping:
                    if self._ticking:
                        self._wake.wait(max(0.0, next_tick - time.monotonic()))
                    else:
                        self._wake.wait(self._pause if self._claims.needs_reconcile else None)
                self._asleep = False
                self._wake.clear()
            if self._waiting or self._settled:
                self.flush()
            elif self._claims.needs_reconcile:
                self._reconcile()
            if self._stopping and not self._waiting and not self._settled:
                connections.close_all()
                return
            now = time.monotonic()
            if self._ticking and self._tick is not None and now >= next_tick:
                next_tick = now + period
                self.tick()
            elif not self._ticking:
                next_tick = now + period

    def tick(self) -> None:
        """Mark what runs long; in a thread beside the one that runs it. What fails is done by the next tick."""
        try:
            assert self._tick is not None
            self._tick()
        except (Error, *connection.Unavailable) as error:
            logger.debug("Could not mark running jobs: %s", error)  # the next tick does it
            refresh(close=isinstance(error, Error))

    def flush(self) -> None:
        """Record one group and acknowledge it, and what is settled already."""
        if self._settled:
            self._acknowledge_settled()
        most = conf.get().SETTLE_MAX
        group = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        if not group:
            return
        accepted, unrecorded = self._writer.record(group)
        if unrecorded:
            group = [outcome for outcome in group if not any(outcome is one for one in unrecorded)]
        if not self._room.is_set() and len(self._waiting) < self._limit // 2:
            self._room.set()
        self._acknowledge(group, accepted)
        self._announce(group, accepted)

    def _announce(self, group: list[Outcome], accepted: set[str]) -> None:
        settle.announce(group, accepted, self._worker_id)
        if len(accepted) < len(group):
            try:
                settle.count_refused(self._worker_id, len(group) - len(accepted))
            except Error as error:
                logger.warning("Refused outcomes could not be counted: %s", store_health.explain(error))
                refresh(close=True)

    def _acknowledge_settled(self) -> None:
        """Acknowledge and announce what is settled already."""
        settled = [self._settled.popleft() for _ in range(len(self._settled))]
        # Apart: a job may be here twice, refused as one delivery, counted as the next.
        for counted in (False, True):
            group = [outcome for outcome, counts in settled if counts is counted]
            if group:
                accepted = {outcome.delivery.id for outcome in group} if counted else set()
                self._acknowledge(group, accepted)
                self._announce(group, accepted)

    def _acknowledge(self, group: list[Outcome], accepted: set[str]) -> None:
        # What this child was given again meanwhile, it holds for that.
        own = [outcome for outcome in group if not self._claims.has_newer(outcome.delivery)]
        with self._claims.releasing([outcome.delivery for outcome in group]):
            settle.acknowledge(connection.client(), self._holder, own, accepted)
            self._pause = FIRST_PAUSE_SECONDS

    def _reconcile(self) -> None:
        """Reconcile after a failed acknowledgement. If the child stops first, the keeper recovers its jobs."""
        if not self._claims.lock.acquire(blocking=False):
            return  # the child is claiming, and does this before
        try:
            refresh()
            self._claims.reconcile(connection.client())
            self._pause = FIRST_PAUSE_SECONDS
        except (Error, *connection.Unavailable) as error:
            logger.debug("Claims could not be reconciled with Redis yet: %s", connection.said(error))
            refresh(close=isinstance(error, Error))
            self._pause = min(self._pause * 2, MAX_PAUSE_SECONDS)
        finally:
            self._claims.lock.release()

    def database_failed(self, error: BaseException) -> None:
        """The database is away, or refuses writes: nothing is claimed until that is over."""
        self.can_record.clear()
        self._outage.failed(error)

    def database_answered(self) -> None:
        """The database is there."""
        self._outage.answered()
        if not self.can_record.is_set():
            self.can_record.set()
