"""Outages of the database: which errors are one, and whether the record can be written now.

A database can answer and still refuse writes: a read-only primary after a failover, a full disk, a column that is
not migrated yet, a missing grant. For the queue this is the same as a database that is away.
"""

from __future__ import annotations

from django.db import DataError, Error, IntegrityError, InterfaceError, OperationalError, transaction

from queue_app import clock, conf
from queue_app.domain import ids
from queue_app.domain.ending import Ending
from queue_app.domain.serialization import NO_ARGUMENTS
from queue_app.domain.states import AttemptState, DeadReason, JobState
from queue_app.models import sql
from queue_app.models.sql.rows import NewJobs


def is_outage(error: BaseException | None) -> bool:
    """Whether this error says that the database cannot do this now, so that the same call may succeed later.

    `DataError` and `IntegrityError` are about the values that were written. Every other error of a database is about
    the database.
    """
    return isinstance(error, Error) and not isinstance(error, DataError | IntegrityError)


def explain(error: BaseException) -> str:
    """What is wrong with the database, in one line: its own words, and whether it answers but refuses writes."""
    text = str(error).strip() or type(error).__name__
    if is_outage(error) and not isinstance(error, OperationalError | InterfaceError):
        return f"it refuses writes: {text.splitlines()[0]}"
    return text


def check_writes() -> None:
    """Find out whether the database takes the ends of attempts: those of two made-up jobs are written and rolled back.

    Raises:
        Error: an outage (see `is_outage`), also where it refuses every value, as code older than its tables may meet.
    """
    connection = sql.write_connection()
    vendor = sql.for_vendor(connection)
    now = clock.seconds()
    made = [ids.new_text(), ids.new_text()]
    try:
        with transaction.atomic(using=connection.alias):
            vendor.insert_jobs(connection, _made_up(made))
            vendor.end_attempts(connection, [_success(made[0], now), _failure(made[1], now)], None)
            transaction.set_rollback(True, using=connection.alias)
    except (DataError, IntegrityError) as error:
        raise OperationalError(f"it refuses every outcome: {str(error).strip()}") from error


_TASK = "queue_app.made_up"


def _made_up(job_ids: list[str]) -> NewJobs:
    return NewJobs(
        task=_TASK,
        queue="default",
        priority=0,
        state=JobState.QUEUED.value,
        backend="",
        run_after=None,
        max_attempts=conf.get().MAX_ATTEMPTS,
        timeout=None,
        enqueued_at=clock.now(),
        ids=job_ids,
        payloads=[NO_ARGUMENTS] * len(job_ids),
    )


def _success(job_id: str, now: float) -> Ending:
    states = JobState.SUCCEEDED.value, AttemptState.SUCCEEDED.value
    return Ending(job_id, _TASK, "default", 1, *states, now, now, failures=0, deaths=0)


def _failure(job_id: str, now: float) -> Ending:
    states = JobState.FAILED.value, AttemptState.FAILED.value
    reason = DeadReason.NOT_RETRYABLE.value
    return Ending(
        job_id, _TASK, "default", 1, *states, now, now, failures=1, deaths=0, error=_TASK, dead_reason=reason
    )
