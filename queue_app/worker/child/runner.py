"""The runner: takes a claimed job through its steps, from its task's module to the recorder."""

from __future__ import annotations

from collections.abc import Callable

from queue_app.dispatch.holder import Holder
from queue_app.domain.delivery import Delivery
from queue_app.domain.outcome import Outcome
from queue_app.lifecycle import database
from queue_app.tasks.registry import Declared
from queue_app.worker.child.async_loop import AsyncLoop
from queue_app.worker.child.atomic import Transaction
from queue_app.worker.child.claims import ClaimSet
from queue_app.worker.child.executor import Executor, hard_limit, soft_limit
from queue_app.worker.child.long_jobs import LongJobs
from queue_app.worker.child.prefetch import Prefetch
from queue_app.worker.child.preflight import Preflight
from queue_app.worker.child.recorder import Recorder
from queue_app.worker.child.running import RunningJobs
from queue_app.worker.child.timeouts import InMainThread, Interrupts, InThreads
from queue_app.worker.child.unknown_tasks import UnknownTasks
from queue_app.worker.config import WorkerConfig
from queue_app.worker.shared_state import SharedState


class _NotStarted(Exception):
    """A job does not start here. The claim was released before this is raised."""


class Runner:
    """Runs the jobs of one child.

    Args:
        config: of the worker.
        shared: the worker's shared state.
        index: the child's index in it.
        holder: the name under which the child holds jobs.
        stopping: whether the child was told to stop.

    Attributes:
        jobs: how many jobs were run.
    """

    def __init__(
        self,
        config: WorkerConfig,
        shared: SharedState,
        index: int,
        holder: Holder,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.jobs = 0
        self.prefetch = Prefetch()
        self.claims = ClaimSet(holder)
        self.running = RunningJobs(shared, index, config.slots)
        long_jobs = LongJobs(self.running, self.prefetch, self.claims, config.worker_id, config.slots)
        self.recorder = Recorder(config.worker_id, holder, long_jobs.tick, self.claims)
        self.unknown_tasks = UnknownTasks(self.claims, holder, config.queues.names)
        self.preflight = Preflight(
            shared,
            index,
            holder,
            config.queues.names,
            claims=self.claims,
            prefetch=self.prefetch,
            running=self.running,
            recorder=self.recorder,
            stopping=stopping,
        )
        self._worker_id = config.worker_id
        self._recheck_counter = shared.recheck_counter
        self._index = index
        self._stopping = stopping
        cancelled = self.running.cancelled
        self._loop = AsyncLoop(cancelled)
        self._interrupts: Interrupts = (InMainThread if config.slots == 1 else InThreads)(cancelled)
        self._executor = Executor(config.worker_id, self._interrupts, self._loop.run, self.running)

    # one job

    def run_one(self, slot: int, delivery: Delivery) -> None:
        """Run one claimed job and hand its outcome to the recorder.

        Args:
            slot: the free slot that it occupies meanwhile.
            delivery: what was claimed; given to `add_claims` before.
        """
        claims = self.claims
        try:
            if claims.revoked:
                self._check_revoked(delivery)
            declared = self.unknown_tasks.known(delivery) or self._resolve(slot, delivery)
            transaction = self._open_transaction(delivery) if declared.atomic else None
            soft = soft_limit(declared, delivery)
            hard = hard_limit(declared, soft)
            started = self.running.start(slot, delivery, hard)
            try:
                # Checked once the slot is occupied. The keeper counts first and reads the slots then, so that either
                # it finds the job or the job finds the count.
                if (
                    self._recheck_counter[self._index] != delivery.recheck_seen
                    or started - claims.since > self.preflight.stale_seconds
                ):
                    started = self._revalidate(slot, delivery, transaction, hard, started)
                outcome = (transaction or self._executor).execute(declared, delivery, soft, started)
                database.tidy(delivery.task)
                if outcome.exception is not None or self._interrupts.interrupted:
                    self._close_connections(outcome)
            finally:
                progress = self.running.end(slot, delivery)
        except _NotStarted:
            return
        if progress is not None:
            outcome.progress = progress
        self.jobs += 1
        (transaction or self.recorder).put(outcome)

    def _check_revoked(self, delivery: Delivery) -> None:
        """Another child may have this job by now, or it is recorded as cancelled: then it does not start."""
        if delivery.id in self.claims.revoked:
            self.claims.remove([delivery])
            raise _NotStarted

    def _resolve(self, slot: int, delivery: Delivery) -> Declared:
        """The task of a job, which this child has not met yet.

        The import may end this process, or hang. So the job occupies its slot meanwhile, with a time limit. If an
        exception leaves this method, the job stays in the slot, so that the death is charged to it.
        """
        self.running.start_import(slot, delivery)
        declared = self.unknown_tasks.resolve(delivery)
        if declared is not None and delivery.id in self.claims.revoked:
            self.claims.remove([delivery])
            declared = None
        self.running.end_import(slot, delivery, starts=declared is not None)
        if declared is None:
            raise _NotStarted
        return declared

    def _open_transaction(self, delivery: Delivery) -> Transaction:
        transaction = Transaction(self._executor, self.recorder, self._worker_id, self.running.progress_of)
        self._begin(transaction, delivery)
        return transaction

    def _begin(self, transaction: Transaction, delivery: Delivery) -> None:
        """Begin the transaction of an atomic job. If the child has to stop before the database answers, the job goes
        back to its queue."""
        if not transaction.begin(self._stopping):
            self.give_back()
            self.claims.give_back([delivery])  # after the others: to the front
            raise _NotStarted
        if transaction.strict:
            self.running.forbid_marking(delivery)

    def _revalidate(
        self,
        slot: int,
        delivery: Delivery,
        transaction: Transaction | None,
        hard: float | None,
        started: float,
    ) -> float:
        """Check whether a job may start, and return when it started.

        The check writes, which must not happen in the job's own transaction. So that is begun anew after it.
        """
        if transaction is not None:
            transaction.roll_back()
        if not self.preflight.may_start(delivery):
            self.claims.remove([delivery])
            raise _NotStarted
        if transaction is None:
            return started
        self._begin(transaction, delivery)
        return self.running.start(slot, delivery, hard)  # the database may have been waited for

    def _close_connections(self, outcome: Outcome) -> None:
        """Close database connections that the task may have left in a bad state."""
        if outcome.exception is not None:
            database.drop_refused(outcome.exception)
        if self._interrupts.clear_interrupted(outcome.delivery.id):
            database.drop_interrupted()

    # the child's other verbs

    def add_claims(self, deliveries: list[Delivery], recheck_count: int) -> None:
        """Register what was just claimed.

        Args:
            recheck_count: `preflight.recheck_count` before the claim; what was counted since may concern these jobs.
        """
        for delivery in deliveries:
            delivery.recheck_seen = recheck_count
        self.claims.add(deliveries)

    def interrupt(self) -> None:
        """Interrupt the running jobs that the keeper has marked as cancelled. Called by the signal handler.

        Raises:
            Cancelled: in the middle of the job that runs in this thread.
        """
        for job_id in self.running.find_cancelled():
            self._loop.cancel(job_id)
            self._interrupts.cancel(job_id)

    def give_back(self) -> None:
        """Return the prefetched jobs to the front of their queues."""
        self.claims.give_back(self.prefetch.drain())

    def stop(self) -> None:
        """Give back what has not started, and record what has ended."""
        self.give_back()
        self.recorder.stop()
        self._loop.stop()
        database.refresh(close=True)
