"""Atomic jobs (P5): what a task writes and that its job has succeeded are committed in one transaction, or not at all.

The transaction is that of the thread which runs the task, on the database that holds the jobs. Its last statement is
the guarded write of the outcome, so that a delivery which the record no longer expects takes its effects with it.

    begin    opens the transaction before the task runs; waits while the database is down
    execute  the task, the outcome, COMMIT; a failure of any rolls back everything
    put      what became of it goes to the recorder, which records only what is not recorded yet; if the answer to the
             COMMIT was lost, that is found out first (commit_check.py)
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from django.db import Error, OperationalError, transaction
from django.db.transaction import TransactionManagementError

from queue_app import conf
from queue_app.domain.delivery import Delivery
from queue_app.domain.error_text import log_error
from queue_app.domain.outcome import Outcome
from queue_app.domain.states import AttemptState
from queue_app.lifecycle import database, settle, store_health
from queue_app.models import Job, sql
from queue_app.tasks import sensitive
from queue_app.tasks.registry import Declared
from queue_app.worker.child.backoff import Backoff, StoreMonitor
from queue_app.worker.child.commit_check import lost_attempt, refused_attempt, resolve
from queue_app.worker.child.executor import Executor

logger = logging.getLogger(__name__)

#: Seconds between two looks at whether the child was told to stop, while nothing can be recorded.
STOP_CHECK_SECONDS = 0.25

CLOSED = "The task closed the database connection that its own transaction is on; an atomic task must leave it open."
ENDED = "The task ended its transaction (COMMIT, ROLLBACK or autocommit); an atomic task leaves that to the worker."
INNER = "The task left an atomic block of its own open."
ROLLBACK_ONLY = (
    "The task returned although its transaction can only be rolled back: a database error was swallowed, or"
    " set_rollback(True) was called. Let the exception out, or put what may fail into an atomic block of its own."
)


class OutcomeSink(StoreMonitor, Protocol):
    """Where outcomes go: the recorder. While it is not `can_record`, nothing can be recorded."""

    can_record: threading.Event

    def put(self, outcome: Outcome) -> None: ...
    def put_settled(self, outcome: Outcome, counted: bool) -> None: ...


class _Undone(Exception):
    """Given to the atomic block so that it rolls back."""


class Transaction:
    """The transaction of one atomic job, in the thread that runs it.

    Args:
        worker_id: of the worker that makes the attempt.
        progress: job id → latest progress of what runs.
    """

    def __init__(
        self, executor: Executor, recorder: OutcomeSink, worker_id: str, progress: Mapping[str, str]
    ) -> None:
        self._executor = executor
        self._recorder = recorder
        self._worker_id = worker_id
        self._progress = progress
        self._task: Any = None
        self._connection: Any = None
        self._raw: Any = None
        #: Whether the record took the outcome; None: it has not been asked.
        self._counted: bool | None = None
        #: What is to be recorded if the COMMIT, whose answer is missing, has not happened; and what to run if it has.
        self._fallback: Outcome | None = None
        self._hooks: list[Any] = []

    def begin(self, stopping: Callable[[], bool]) -> bool:
        """Open the transaction, for as long as it takes.

        Returns:
            False when told to stop while the database was away: the task must not run.
        """
        while not self._recorder.can_record.wait(STOP_CHECK_SECONDS):
            if stopping():
                return False
        waiting = Backoff(self._recorder)
        while True:
            connection = sql.write_connection()
            reused = connection.connection is not None
            try:
                self._open(connection)
            except Error as error:
                database.abandon(connection)
                if reused:  # it may just have been idle for too long
                    continue
                if stopping():
                    return False
                waiting.failed(error)
            else:
                waiting.over()
                return True

    def _open(self, connection: Any) -> None:
        self._connection = connection
        self._outermost = not connection.in_atomic_block  # else: in the transaction of a test case
        self._block = transaction.atomic(using=connection.alias)
        self._block.__enter__()
        if connection.vendor == "sqlite":
            # The lock for writing now, where it can be waited for: whoever has read before gets it at once or never.
            with connection.cursor() as cursor:
                cursor.execute(f"UPDATE {Job._meta.db_table} SET attempt = attempt WHERE 0")  # noqa: S608 - a constant
        # It tells later whether this is still the same transaction; and now, whether the connection works.
        self._savepoint = connection.savepoint()
        self._raw = connection.connection
        database.check_read_only(connection)
        self._depth = len(connection.savepoint_ids)

    @property
    def strict(self) -> bool:
        """Whether its isolation is such that no other transaction may touch the job's row meanwhile."""
        level = getattr(self._connection, "isolation_level", None)
        return getattr(level, "name", "") in ("REPEATABLE_READ", "SERIALIZABLE")

    # the task, and what follows

    def execute(self, declared: Declared, delivery: Delivery, soft: float | None, started: float) -> Outcome:
        """Run one delivery and commit it; the arguments are those of `Executor.execute`.

        Returns:
            The outcome, for `put`.
        """
        outcome, self._task = None, declared.task
        try:
            outcome = self._executor.execute(declared, delivery, soft, started)
        finally:
            if outcome is None or outcome.state is not AttemptState.SUCCEEDED:
                self.roll_back()
        if outcome.state is not AttemptState.SUCCEEDED:
            return outcome
        outcome.progress = self._progress.get(delivery.id)
        committing = False
        try:
            self._check()
            self._bound_idle_time()
            if not settle.record([outcome], self._worker_id):
                self.roll_back()
                self._counted = False
                return outcome
            self._detach_hooks()
            committing = True
            self._block.__exit__(None, None, None)
        except Exception as error:
            return self._failed(declared, outcome, error, committing)
        except BaseException:
            self.roll_back()
            self._hooks = []
            raise
        self._counted = True
        self._run_hooks(delivery)
        return outcome

    def _failed(self, declared: Declared, outcome: Outcome, error: Exception, committing: bool) -> Outcome:
        """The task has returned, but its success could not be committed."""
        self.roll_back()
        answered = isinstance(error, TransactionManagementError) or self._connection.connection is self._raw
        lost = isinstance(error, Error) and not answered
        if lost:
            logger.warning(
                "The connection was lost while job %s (%s) was being committed: %s",
                outcome.delivery.id,
                outcome.delivery.task,
                str(error).strip(),
            )
            fallback = lost_attempt(outcome, error)
        else:
            fallback = self._refused(declared, outcome, error)
        if not lost and not committing:  # it is rolled back for sure
            return fallback
        self._fallback = fallback
        return outcome

    def _refused(self, declared: Declared, outcome: Outcome, error: Exception) -> Outcome:
        """What becomes of an attempt whose success the database has refused."""
        if store_health.is_outage(error) and not isinstance(error, TransactionManagementError):
            if self._is_outage(outcome):
                return refused_attempt(outcome, error, in_outage=True)
            if not isinstance(
                error, OperationalError
            ):  # else a conflict: a serialization failure, a deadlock
                return refused_attempt(outcome, error, in_outage=False)
        started = outcome.started_at or outcome.finished_at
        return self._executor.failed(declared, outcome.delivery, started, error, outcome.task_result)

    def _is_outage(self, outcome: Outcome) -> bool:
        """Whether the database refuses the outcome also without the task's transaction, in one that is rolled back."""
        alias = self._connection.alias
        try:
            with transaction.atomic(using=alias):
                settle.record([outcome], self._worker_id)
                transaction.set_rollback(True, using=alias)
        except Error as error:
            if self._outermost:
                database.abandon(self._connection)
            return store_health.is_outage(error)
        return False

    def _check(self) -> None:
        """Whether the transaction is the one that was begun, and can be committed.

        Raises:
            TransactionManagementError: the task has done what an atomic task must not do.
        """
        connection = self._connection
        if connection.closed_in_transaction or connection.connection is not self._raw:
            raise TransactionManagementError(CLOSED)
        if not connection.in_atomic_block or (self._outermost and connection.autocommit):
            raise TransactionManagementError(ENDED)
        if len(connection.savepoint_ids) != self._depth:
            raise TransactionManagementError(INNER)
        if connection.needs_rollback:
            raise TransactionManagementError(ROLLBACK_ONLY)
        try:
            connection.savepoint_commit(self._savepoint)
        except Error as error:
            code = getattr(error.__cause__, "sqlstate", None)  # of psycopg 3; others are told by their words
            if code in ("3B001", "25P01") or (code is None and "savepoint" in str(error).lower()):
                raise TransactionManagementError(ENDED) from error
            if code == "25P02":
                raise TransactionManagementError(ROLLBACK_ONLY) from error
            raise

    def _bound_idle_time(self) -> None:
        """From now on the job's row is locked: a process that is frozen, or cut off, just then must not keep those
        waiting who take over from it."""
        if self._outermost and self._connection.vendor == "postgresql":
            with self._connection.cursor() as cursor:
                milliseconds = int(conf.get().LEASE * 1000)
                cursor.execute(f"SET LOCAL idle_in_transaction_session_timeout = {milliseconds}")

    def roll_back(self) -> None:
        """End the transaction without a trace, whatever state it is in."""
        connection = self._connection
        if connection.in_atomic_block and len(connection.savepoint_ids) == self._depth:
            try:
                self._block.__exit__(_Undone, _Undone(), None)
            except Error as error:  # the database is away, and has rolled back by itself
                logger.debug("After a rollback: %s", error)
        if self._outermost and (connection.in_atomic_block or not connection.autocommit):
            database.abandon(connection)

    # the task's own on_commit hooks

    def _detach_hooks(self) -> None:
        """Keep the hooks by ourselves: Django forgets them when the answer to the COMMIT is lost, and lets one that
        fails look like a commit that failed."""
        if self._outermost:
            self._hooks, self._connection.run_on_commit = self._connection.run_on_commit, []

    def _run_hooks(self, delivery: Delivery) -> None:
        while self._hooks:
            hook = self._hooks.pop(0)[1]
            try:
                hook()
            except Exception as error:
                text = "An on_commit hook of %s failed; its job has succeeded all the same."
                hide = sensitive.hider(self._task, delivery.args, delivery.kwargs)
                log_error(logger, error, text, delivery.task, caller=__file__, hide=hide)

    # what became of it

    def put(self, outcome: Outcome) -> None:
        """Hand the outcome of `execute` to the recorder; first find out what it is."""
        if self._fallback is not None:
            committed = outcome
            outcome, self._counted = resolve(self._recorder, self._worker_id, outcome, self._fallback)
            if outcome is committed and self._counted:
                self._run_hooks(outcome.delivery)
                database.tidy(outcome.delivery.task)
            self._hooks = []
        if self._counted is None:
            self._recorder.put(outcome)
        else:
            self._recorder.put_settled(outcome, self._counted)
