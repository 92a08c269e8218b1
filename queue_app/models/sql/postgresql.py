"""Bulk SQL for PostgreSQL with psycopg 3. Here: the writes of outcomes, with UPDATE … FROM unnest(arrays) and COPY."""

from __future__ import annotations

from importlib.util import find_spec
from operator import attrgetter
from uuid import UUID

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from queue_app.domain import ids
from queue_app.domain.ending import Ending
from queue_app.domain.states import FINAL, JobState
from queue_app.models.sql.postgresql_insert import insert_jobs as insert_jobs
from queue_app.models.sql.postgresql_scans import names_of_waiting as names_of_waiting
from queue_app.models.sql.postgresql_scans import newest_waiting as newest_waiting
from queue_app.models.sql.postgresql_scans import oldest_waiting as oldest_waiting
from queue_app.models.sql.postgresql_scans import read_waiting as read_waiting
from queue_app.models.sql.postgresql_scans import walk_waiting as walk_waiting
from queue_app.models.sql.postgresql_text import (
    NULL,
    copy_text,
    plain_array,
    text_array,
    timestamp,
    timestamp_or,
)
from queue_app.models.sql.rows import Accepted, Start

#: COPY is used as in psycopg 3; with psycopg2 the generic module serves. Not imported here, as SQLite needs neither.
AVAILABLE = find_spec("psycopg") is not None

#: States in which no attempt can end. The conditions name these, not the others, so that the planner does not take a
#: partial index.
_CLOSED = ", ".join(f"'{state}'" for state in sorted(FINAL | {JobState.BLOCKED}))
_FINAL = ", ".join(f"'{state}'" for state in sorted(FINAL))

#: The updates below find the rows of one group by primary key and hash them against the values. Otherwise the planner
#: reads the whole table for each group: without statistics, or once they say that almost every row is final.
_BY_KEY = "SET LOCAL enable_seqscan = off; SET LOCAL enable_nestloop = off; SET LOCAL enable_mergejoin = off"

_COPY_ATTEMPTS = (
    "COPY queue_app_attempt (job_id, number, state, worker_id, started_at, finished_at, error_class, error,"
    " traceback) FROM STDIN"
)
_COPY_DEAD = (
    "COPY queue_app_deadletter (id, job_id, task, queue, reason, attempts, error_class, error, fingerprint, created_at)"
    " FROM STDIN"
)
#: Successes, the bulk of all outcomes: rows and attempts in one statement. Constant values are not sent.
_SUCCEED = f"""
WITH d (id, number, started, finished, result, progress) AS MATERIALIZED (
    SELECT * FROM unnest(%b::uuid[], %b::int[], %b::timestamptz[], %b::timestamptz[], %b::text[], %b::text[])
), counted AS (
    UPDATE queue_app_job AS j
    SET state = 'succeeded', attempt = d.number, started_at = COALESCE(j.started_at, d.started),
        last_attempted_at = d.started, finished_at = d.finished, result = d.result, worker_id = %s,
        progress = COALESCE(d.progress, j.progress), suspect = false
    FROM d
    WHERE j.id = ANY (ARRAY(SELECT id FROM d)) AND j.id = d.id AND j.attempt = d.number - 1
        AND j.state NOT IN ({_CLOSED})
    RETURNING j.id, d.number, j.worker_id, d.started, d.finished
)
INSERT INTO queue_app_attempt (job_id, number, state, worker_id, started_at, finished_at, error_class, error, traceback)
SELECT id, number, 'succeeded', worker_id, started, finished, '', '', '' FROM counted
RETURNING job_id
"""  # noqa: S608 - constants
_END = f"""
WITH d (id, number, started, finished, state, progress, failures, deaths, run_after, suspect) AS MATERIALIZED (
    SELECT * FROM unnest(%s::uuid[], %s::int[], %s::timestamptz[], %s::timestamptz[], %s::text[], %s::text[], %s::int[],
            %s::int[], %s::timestamptz[], %s::bool[])
)
UPDATE queue_app_job AS j
SET state = CASE WHEN j.cancel_requested_at IS NULL THEN d.state ELSE 'cancelled' END, attempt = d.number,
    started_at = COALESCE(j.started_at, d.started), last_attempted_at = COALESCE(d.started, j.last_attempted_at),
    finished_at = CASE WHEN j.cancel_requested_at IS NOT NULL OR d.state IN ({_FINAL}) THEN d.finished END,
    result = NULL, worker_id = %s, progress = COALESCE(d.progress, j.progress), failures = d.failures,
    deaths = d.deaths, suspect = d.suspect,
    run_after = CASE WHEN j.cancel_requested_at IS NULL THEN COALESCE(d.run_after, j.run_after) ELSE j.run_after END
FROM d
WHERE j.id = ANY (ARRAY(SELECT id FROM d)) AND j.id = d.id AND j.attempt = d.number - 1 AND j.state NOT IN ({_CLOSED})
RETURNING j.id, j.state = 'cancelled'
"""  # noqa: S608 - constants
_RUN = f"""
WITH d (id, number, started, progress) AS MATERIALIZED (
    SELECT * FROM unnest(%s::uuid[], %s::int[], %s::timestamptz[], %s::text[])
)
UPDATE queue_app_job AS j
SET state = 'running', worker_id = %s, last_attempted_at = d.started,
    started_at = COALESCE(j.started_at, d.started), progress = COALESCE(d.progress, j.progress)
FROM d
WHERE j.id = ANY (ARRAY(SELECT id FROM d)) AND j.id = d.id AND j.attempt = d.number - 1 AND j.state NOT IN ({_CLOSED})
"""  # noqa: S608 - constants


def end_attempts(connection: BaseDatabaseWrapper, endings: list[Ending], worker_id: str | None) -> Accepted:
    """Record outcomes, each only if the row expects that attempt, with attempt rows and dead letters. Commits before it
    returns, unless it is called in a transaction.

    Args:
        worker_id: of the worker that made these attempts, or None.

    Returns:
        The ids whose outcome counted.
    """
    good = [e for e in endings if e.job_state == "succeeded"]
    other = [e for e in endings if e.job_state != "succeeded"] if len(good) < len(endings) else []
    with transaction.atomic(using=connection.alias):
        with connection.cursor() as cursor:
            cursor.execute(_BY_KEY)
        counted = Accepted(_succeed(connection, good, worker_id) if good else ())
        if other:
            _end(connection, other, worker_id, counted)
    return counted


def _succeed(connection: BaseDatabaseWrapper, endings: list[Ending], worker_id: str | None) -> set[str]:
    from queue_app.models.sql.binary import integers, server_cursor, texts, times, uuids

    # Every writer locks rows in the order of their ids, so that no two groups wait for each other.
    endings.sort(key=_id)
    expected = [e.id for e in endings]
    with server_cursor(connection) as cursor:
        cursor.execute(
            _SUCCEED,
            [
                uuids(expected),
                integers([e.number for e in endings]),
                times([e.started_at for e in endings]),
                times([e.finished_at for e in endings]),
                texts([e.result for e in endings]),
                texts([e.progress for e in endings]),
                UUID(worker_id) if worker_id else None,
            ],
        )
        if cursor.rowcount == len(expected):
            return set(expected)
        return {str(row[0]) for row in cursor.fetchall()}


def _end(
    connection: BaseDatabaseWrapper, endings: list[Ending], worker_id: str | None, accepted: Accepted
) -> None:
    endings.sort(key=_id)
    with connection.cursor() as cursor:
        cursor.execute(_END, [*_end_columns(endings), worker_id])
        counted = {str(row[0]): row[1] for row in cursor.fetchall()}
        accepted.update(counted)
        accepted.cancelled = frozenset(job_id for job_id, cancelled in counted.items() if cancelled)
        endings = [e for e in endings if e.id in counted]
        if endings:
            worker = worker_id or NULL
            with connection.wrap_database_errors, cursor.copy(_COPY_ATTEMPTS) as copy:
                copy.write("".join([_attempt_line(e, worker) for e in endings]))
        dead = [e for e in endings if e.dead_reason and not counted[e.id]]
        if dead:
            with connection.wrap_database_errors, cursor.copy(_COPY_DEAD) as copy:
                copy.write("".join([_dead_line(e) for e in dead]))


_id = attrgetter("id")


def _end_columns(endings: list[Ending]) -> list[str]:
    return [
        plain_array([e.id for e in endings]),
        plain_array([str(e.number) for e in endings]),
        plain_array([timestamp_or(e.started_at, "NULL") for e in endings]),
        plain_array([timestamp(e.finished_at) for e in endings]),
        plain_array([str(e.job_state) for e in endings]),
        text_array([e.progress for e in endings]),
        plain_array([str(e.failures) for e in endings]),
        plain_array([str(e.deaths) for e in endings]),
        plain_array([timestamp_or(e.run_after, "NULL") for e in endings]),
        plain_array(["t" if e.suspect else "f" for e in endings]),
    ]


def mark_running(connection: BaseDatabaseWrapper, starts: list[Start], worker_id: str) -> None:
    """Set jobs whose attempt is under way to `running`, unless the outcome is recorded already."""
    starts = sorted(starts)
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        cursor.execute(_BY_KEY)
        cursor.execute(
            _RUN,
            [
                plain_array([s.id for s in starts]),
                plain_array([str(s.number) for s in starts]),
                plain_array([timestamp(s.started_at) for s in starts]),
                text_array([s.progress for s in starts]),
                UUID(worker_id),
            ],
        )


def _attempt_line(e: Ending, worker: str) -> str:
    return (
        f"{e.id}\t{e.number}\t{e.attempt_state}\t{worker}\t{timestamp_or(e.started_at, NULL)}\t"
        f"{timestamp(e.finished_at)}\t{copy_text(e.error_class)}\t{copy_text(e.error)}\t{copy_text(e.traceback)}\n"
    )


def _dead_line(e: Ending) -> str:
    return (
        f"{ids.new_text()}\t{e.id}\t{copy_text(e.task)}\t{e.queue}\t{e.dead_reason}\t{e.number}\t"
        f"{copy_text(e.error_class)}\t{copy_text(e.error)}\t{e.fingerprint}\t{timestamp(e.finished_at)}\n"
    )
