"""The runner: takes deliveries through the executor to the recorder, and looks after those that run long."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

from django.db import Error

from queue_app import clock, conf
from queue_app.dispatch import connection, queues
from queue_app.dispatch.holder import Holder
from queue_app.domain.delivery import Delivery
from queue_app.lifecycle import cancel, database, settle
from queue_app.lifecycle.store_health import is_outage
from queue_app.models.sql.rows import Start
from queue_app.tasks.registry import Declared
from queue_app.worker.child.async_loop import AsyncLoop
from queue_app.worker.child.atomic import Transaction
from queue_app.worker.child.backoff import WaitingJob
from queue_app.worker.child.claims import ClaimSet
from queue_app.worker.child.executor import Executor, hard_limit, soft_limit
from queue_app.worker.child.prefetch import Prefetch
from queue_app.worker.child.recorder import Recorder
from queue_app.worker.child.timeouts import InMainThread, Interrupts, InThreads
from queue_app.worker.child.unknown_tasks import UnknownTasks
from queue_app.worker.config import WorkerConfig
from queue_app.worker.shared_state import SharedState

logger = logging.getLogger(__name__)


class Runner:
    """Runs the jobs of one child.

    Args:
        index: the child's place on the board.
        holder: the name under which it holds jobs.
        stopping: whether the child was told to stop.
    """

    def __init__(
        self,
        config: WorkerConfig,
        shared: SharedState,
        index: int,
        holder: Holder,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.prefetch = Prefetch()
        self.claims = ClaimSet(holder)
        self.recorder = Recorder(config.worker_id, holder, self._tick, self.claims)
        self.jobs = 0
        self._config = config
        self._shared = shared
        self._index = index
        self._holder = holder
        self._stopping = stopping
        #: Ids of what was cancelled here while it ran; it is interrupted once. Shared with those that interrupt.
        self._cancelled: set[str] = set()
        self._loop = AsyncLoop(self._cancelled)
        self._interrupts: Interrupts = (InMainThread if config.slots == 1 else InThreads)(self._cancelled)
        self._executor = Executor(config.worker_id, self._interrupts, self._loop.run, self)
        #: What the board said when a loss was last heeded.
        self._losses = shared.recheck_counter[index]
        self._stale = conf.get().LEASE / 2
        self._asking = threading.Lock()
        #: What runs: slot → delivery and start. What its row says already: slot → id and progress.
        self._current: dict[int, tuple[Delivery, float]] = {}
        self._marked: dict[int, tuple[str, str | None]] = {}
        self._progress: dict[str, str] = {}
        self._unmarked: set[str] = set()  # ids whose rows must not be touched while they run
        self.unknown_tasks = UnknownTasks(self.claims, holder, config.queues.names)

    @property
    def recheck_count(self) -> int:
        """What the keeper has told this child so far; to be read before a claim, and given to `take` after it."""
        return int(self._shared.recheck_counter[self._index])

    def add_claims(self, deliveries: list[Delivery], recheck_count: int) -> None:
        """These were claimed. What the keeper has told since `told` may be about them."""
        for delivery in deliveries:
            delivery.recheck_seen = recheck_count
        self.claims.add(deliveries)

    def run_one(self, slot: int, delivery: Delivery) -> None:
        """Run one delivery and hand its outcome to the recorder."""
        if self.claims.revoked and delivery.id in self.claims.revoked:
            self.claims.remove([delivery])
            return
        declared = self.unknown_tasks.known(delivery) or self._resolve(slot, delivery)
        if declared is None:
            return
        transaction = None
        if declared.atomic:
            transaction = self._begin(delivery)
            if transaction is None:
                return
        soft = soft_limit(declared, delivery)
        hard = hard_limit(declared, soft)
        now = self._start(slot, delivery, hard)
        try:
            # Looked at when the slot is on the board already: the keeper counts first, and looks there then.
            if (
                self._shared.recheck_counter[self._index] != delivery.recheck_seen
                or now - self.claims.since > self._stale
            ):
                # Asking writes: not in the task's transaction, which is begun anew.
                if transaction is not None:
                    transaction.roll_back()
                if self._revalidate(delivery):
                    self.claims.remove([delivery])
                    return
                if transaction is not None:
                    transaction = self._begin(delivery)
                    if transaction is None:
                        return
                    now = self._start(slot, delivery, hard)  # the database may have kept it waiting
            outcome = (transaction or self._executor).execute(declared, delivery, soft, now)
            database.tidy(delivery.task)
            if outcome.exception is not None:
                database.drop_refused(outcome.exception)
            if self._interrupts.interrupted:
                self._tidy_more(delivery)
        finally:
            self._shared.end(self._index, slot)
            self._current.pop(slot, None)
            self._marked.pop(slot, None)
            if self._cancelled:
                self._cancelled.discard(delivery.id)
        if self._progress:
            outcome.progress = self._progress.pop(delivery.id, None)
        self.jobs += 1
        if self._unmarked:
            self._unmarked.discard(delivery.id)
        (transaction or self.recorder).put(outcome)

    def _resolve(self, slot: int, delivery: Delivery) -> Declared | None:
        """The task of a delivery that this child has not met yet; None if it is not to be run: it was set aside, or
        others have it by now. To import its module may end this process, or never end. So the job is on the board
        meanwhile, with a limit; an exception that gets out of here leaves it there, so that it is charged."""
        now = clock.seconds()
        self._unmarked.add(delivery.id)  # the task does not run yet
        self._current[slot] = (delivery, now)
        until = time.monotonic() + conf.get().IMPORT_TIMEOUT
        self._shared.importing(self._index, slot, delivery.id, delivery.number, now, until)
        declared = self.unknown_tasks.resolve(delivery)
        self._shared.end(self._index, slot)
        self._current.pop(slot, None)
        self._unmarked.discard(delivery.id)
        if declared is not None and delivery.id in self.claims.revoked:
            self.claims.remove([delivery])
            declared = None
        if declared is None:
            self._cancelled.discard(delivery.id)
        return declared

    def _start(self, slot: int, delivery: Delivery, hard: float | None) -> float:
        now = clock.seconds()
        until = 0.0 if hard is None else time.monotonic() + hard
        self._current[slot] = (delivery, now)
        self._shared.start(self._index, slot, delivery.id, delivery.number, now, until)
        return now

    def _begin(self, delivery: Delivery) -> Transaction | None:
        """The transaction of an atomic job; None after it was given back, told to stop while the database was away."""
        transaction = Transaction(self._executor, self.recorder, self._config.worker_id, self._progress)
        if not transaction.begin(self._stopping):
            self.give_back()
            self._give_back(delivery.queue, [delivery])  # after the others: to the front
            return None
        if transaction.strict:
            self._unmarked.add(delivery.id)
        return transaction

    def _tidy_more(self, delivery: Delivery) -> None:
        if delivery.id in self._interrupts.interrupted:
            self._interrupts.interrupted.discard(delivery.id)
            database.drop_interrupted()

    def is_cancelled(self, delivery: Delivery) -> bool:
        """Whether the job under way was cancelled."""
        return delivery.id in self._cancelled or any(
            current is delivery and self._shared.is_cancelled(self._index, slot, delivery.id)
            for slot, (current, _) in list(self._current.items())
        )

    def interrupt(self) -> None:
        """Interrupt what the keeper has marked on the board; in the main thread, by a signal.

        Raises:
            Cancelled: in the midst of the job that runs in this thread.
        """
        for slot, (delivery, _) in list(self._current.items()):
            job_id = delivery.id
            if job_id not in self._cancelled and self._shared.is_cancelled(self._index, slot, job_id):
                self._cancelled.add(job_id)
                self._loop.cancel(job_id)
                self._interrupts.cancel(job_id)

    def _revalidate(self, delivery: Delivery) -> bool:
        """Jobs that this child has claimed were cancelled, Redis lost its data, or this process stood still for so
        long that others may have taken over: find out whether this one, or others in the backlog, must not begin."""
        claims = self.claims
        self._unmarked.add(delivery.id)  # its row must not say that it runs: another child may have it
        with self._asking:
            recheck_count = self._shared.recheck_counter[self._index]
            unstarted = [delivery, *self.prefetch.unstarted()]
            client = connection.client()
            try:
                self.check_data_loss()
                if clock.seconds() - claims.since > self._stale:
                    claims.mark_unsure(self._config.queues.names)
                if claims.needs_reconcile:
                    with claims.lock:
                        claims.reconcile(client)
                if marked := cancel.marked_cancelled(client, unstarted):
                    self._end_cancelled(delivery, marked)
            except (Error, *connection.Unavailable) as error:
                # What may be cancelled begins, and is interrupted; the next one asks again.
                said = connection.said(error)
                logger.warning("It is not known which claimed jobs must not begin: %s", said)
                database.refresh(close=True)
                return delivery.id in claims.revoked
            finally:
                self._unmarked.discard(delivery.id)
            for looked_at in unstarted:
                looked_at.recheck_seen = recheck_count
        return delivery.id in claims.revoked

    def _end_cancelled(self, delivery: Delivery, marked: list[Delivery]) -> None:
        """End what was cancelled and has not begun. From the moment that the record may say so, it must not begin,
        whatever becomes of the answers: the record is asked for as long as it takes if the delivery is among them.

        Raises:
            Unavailable (see dispatch.connection), Error: ask again for the others.
        """
        numbers = {d.id: d.number for d in marked}
        waiting = WaitingJob(self.recorder)
        while True:
            try:
                ended = cancel.end_unstarted(numbers)
                break
            except Error as error:
                database.refresh(close=True)
                if delivery.id not in numbers or not is_outage(error):
                    raise
                if self._stopping():
                    self.claims.revoked.add(delivery.id)
                    self.claims.unconfirmed.add(
                        delivery.id
                    )  # it is put right, and then ended, by whoever takes back
                    raise
                waiting.failed(error)
        waiting.over()
        self.claims.revoked |= ended
        self.claims.unconfirmed |= ended
        cancel.let_go(connection.client(), self._holder, [d for d in marked if d.id in ended])
        self.claims.unconfirmed -= ended

    def check_data_loss(self) -> None:
        """If the keeper says that Redis has lost its data, look at what it says that this child holds."""
        recheck_count = self._shared.recheck_counter[self._index]
        if self._shared.is_data_loss_flagged(recheck_count, self._losses):
            self.claims.mark_unsure(self._config.queues.names)
            self._losses = recheck_count

    def is_running(self, job_id: str) -> bool:
        """Whether a slot of this child is at this job."""
        return any(delivery.id == job_id for delivery, _ in tuple(self._current.values()))

    def stop(self) -> None:
        """Give back what has not started, record what has ended."""
        self.give_back()
        self.recorder.stop()
        self._loop.stop()
        database.refresh(close=True)

    def give_back(self) -> None:
        """Return what has not started to the front of its queue."""
        self.return_to_queue(self.prefetch.drain())

    def return_to_queue(self, unstarted: list[Delivery]) -> None:
        """Return these, which are in no backlog any more, to the front of their queues."""
        by_queue: dict[str, list[Delivery]] = {}
        for delivery in unstarted:
            by_queue.setdefault(delivery.queue, []).append(delivery)
        for queue, deliveries in by_queue.items():
            self._give_back(queue, deliveries)

    def postpone(self, delivery: Delivery, seconds: float) -> None:
        """Return a job that has not started to its queue, not to be claimed by anybody for so long."""
        at = clock.seconds() + seconds
        with self.claims.releasing([delivery]):
            entry = (delivery.id, at, delivery.raw)
            queues.settle(connection.client(), delivery.queue, self._holder, [], [entry])

    def set_exclusive(self, alone: bool) -> None:
        """Say on the board that nothing is claimed, as one job is to run alone; or that this is over."""
        self._shared.set_exclusive(self._index, alone)

    def _give_back(self, queue: str, deliveries: list[Delivery]) -> None:
        with self.claims.releasing(deliveries):
            queues.give_back(connection.client(), queue, self._holder, [d.id for d in deliveries])

    def progress(self, delivery: Delivery, text: str) -> None:
        """Note an attempt's progress; the record learns of it at the next tick, or with the outcome."""
        self._progress[delivery.id] = text

    def _tick(self) -> None:
        """In the recorder's thread, while jobs run: say `running` of long ones, do not hoard behind them."""
        now = clock.seconds()
        limits = conf.get()
        starts = []
        long_ones = 0
        for slot, (delivery, started_at) in list(self._current.items()):
            observe = now - started_at
            long_ones += observe >= limits.LONG_JOB
            progress = self._progress.get(delivery.id)
            if delivery.id in self._unmarked:
                continue
            if observe >= limits.RUNNING_AFTER and self._marked.get(slot) != (delivery.id, progress):
                starts.append(Start(delivery.id, delivery.number, started_at, progress))
                self._marked[slot] = (delivery.id, progress)
        if long_ones >= self._config.slots:
            self.prefetch.long_job()
            self.give_back()
        elif self.prefetch.waited() >= limits.LONG_JOB:
            self.give_back()  # these jobs are slower than those by which the size of the claim was chosen
        if starts:
            try:
                settle.mark_running(starts, self._config.worker_id)
            except BaseException:
                self._marked.clear()  # the next tick tries again
                raise


def resident_mb() -> float:
    """Resident memory of this process in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
