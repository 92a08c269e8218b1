"""Bulk writes for PostgreSQL with psycopg 3: COPY, and UPDATE … FROM unnest(arrays).

Rows are formatted here, as COPY text and array literals, because that is several times cheaper than letting the
driver adapt thousands of values one by one. The formats: PostgreSQL manual, "COPY" (text format) and "Arrays"
(array input syntax).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from importlib.util import find_spec
from operator import attrgetter
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from queue_app import ids
from queue_app.models.bulk.rows import Ending, NewJobs, Start
from queue_app.states import FINAL, JobState

#: COPY as it is done here is psycopg 3's; with psycopg2 the generic path serves. Not imported: SQLite needs neither.
AVAILABLE = find_spec("psycopg") is not None

#: NULL in COPY's text format.
NULL = r"\N"
#: States in which no attempt can end. Said of these, not of the others: the partial indexes must not look as if they
#: could help.
_CLOSED = ", ".join(f"'{state}'" for state in sorted(FINAL | {JobState.BLOCKED}))

#: The updates below touch the rows of one group, found by their primary keys and hashed against the values. Left to
#: itself the planner reads the whole table for each group: while there are no statistics, or as soon as they say that
#: almost every row is final.
_BY_KEY = "SET LOCAL enable_seqscan = off; SET LOCAL enable_nestloop = off; SET LOCAL enable_mergejoin = off"

_COPY_JOBS = (
    "COPY queue_app_job (id, task, queue, priority, state, payload, backend, run_after, max_attempts, timeout,"
    " attempt, failures, deaths, enqueued_at) FROM STDIN"
)
_INSERT_JOB = (
    "INSERT INTO queue_app_job (id, task, queue, priority, state, payload, backend, run_after, max_attempts,"
    " timeout, attempt, failures, deaths, enqueued_at)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 0, 0, 0, %s)"
)
_COPY_ATTEMPTS = (
    "COPY queue_app_attempt (job_id, number, state, worker_id, started_at, finished_at, error_class, error,"
    " traceback) FROM STDIN"
)
_COPY_DEAD = (
    "COPY queue_app_deadletter (id, job_id, task, queue, reason, attempts, error_class, error, created_at)"
    " FROM STDIN"
)
#: Successes, the bulk of all outcomes: what does not change is not sent.
_SUCCEED = f"""
WITH d (id, number, started, finished, result, progress) AS MATERIALIZED (
    SELECT * FROM unnest(%s::uuid[], %s::int[], %s::timestamptz[], %s::timestamptz[], %s::text[], %s::text[])
)
UPDATE queue_app_job AS j
SET state = 'succeeded', attempt = d.number, started_at = COALESCE(j.started_at, d.started),
    last_attempted_at = d.started, finished_at = d.finished, result = d.result, worker_id = %s,
    progress = COALESCE(d.progress, j.progress)
FROM d
WHERE j.id = ANY (ARRAY(SELECT id FROM d)) AND j.id = d.id AND j.attempt = d.number - 1 AND j.state NOT IN ({_CLOSED})
RETURNING j.id
"""  # noqa: S608 - constants
_END = f"""
WITH d (id, number, started, finished, state, progress, failures, deaths, run_after) AS MATERIALIZED (
    SELECT * FROM unnest(%s::uuid[], %s::int[], %s::timestamptz[], %s::timestamptz[], %s::text[], %s::text[], %s::int[],
            %s::int[], %s::timestamptz[])
)
UPDATE queue_app_job AS j
SET state = d.state, attempt = d.number, started_at = COALESCE(j.started_at, d.started),
    last_attempted_at = COALESCE(d.started, j.last_attempted_at), finished_at = d.finished, result = NULL,
    worker_id = %s, progress = COALESCE(d.progress, j.progress), failures = d.failures, deaths = d.deaths,
    run_after = COALESCE(d.run_after, j.run_after)
FROM d
WHERE j.id = ANY (ARRAY(SELECT id FROM d)) AND j.id = d.id AND j.attempt = d.number - 1 AND j.state NOT IN ({_CLOSED})
RETURNING j.id
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


def insert_jobs(connection: BaseDatabaseWrapper, jobs: NewJobs) -> None:
    """Write new job rows in the current transaction (or one of their own)."""
    with connection.cursor() as cursor:
        if len(jobs) == 1:
            cursor.execute(
                _INSERT_JOB,
                (
                    jobs.ids[0],
                    jobs.task,
                    jobs.queue,
                    jobs.priority,
                    jobs.state,
                    jobs.payloads[0],
                    jobs.backend,
                    jobs.run_after,
                    jobs.max_attempts,
                    jobs.timeout,
                    jobs.enqueued_at,
                ),
            )
            return
        before = f"\t{_text(jobs.task)}\t{jobs.queue}\t{jobs.priority}\t{jobs.state}\t"
        after = (
            f"\t{_text(jobs.backend)}\t{NULL if jobs.run_after is None else jobs.run_after.isoformat()}\t"
            f"{jobs.max_attempts}\t{NULL if jobs.timeout is None else repr(jobs.timeout)}\t0\t0\t0\t"
            f"{jobs.enqueued_at.isoformat()}\n"
        )
        lines = [
            # JSON text has no raw tab or newline: only its backslashes matter to COPY.
            job_id + before + (payload.replace("\\", "\\\\") if "\\" in payload else payload) + after
            for job_id, payload in zip(jobs.ids, jobs.payloads, strict=True)
        ]
        with connection.wrap_database_errors, cursor.copy(_COPY_JOBS) as copy:
            for start in range(0, len(lines), 500):
                copy.write("".join(lines[start : start + 500]))


def end_attempts(connection: BaseDatabaseWrapper, endings: list[Ending], worker_id: str | None) -> set[str]:
    """Record outcomes, each only if the row expects that attempt; with the attempt rows and dead letters.

    Args:
        worker_id: of the worker that made these attempts.

    Returns:
        The ids whose outcome counted. Commits before it returns, unless in a caller's transaction.
    """
    good = [e for e in endings if e.job_state == "succeeded"]
    other = [e for e in endings if e.job_state != "succeeded"] if len(good) < len(endings) else []
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        cursor.execute(_BY_KEY)
        accepted = _update(cursor, _SUCCEED, good, worker_id, _succeed_columns)
        accepted += _update(cursor, _END, other, worker_id, _end_columns)
        if accepted:
            worker = worker_id or NULL
            with connection.wrap_database_errors, cursor.copy(_COPY_ATTEMPTS) as copy:
                copy.write("".join([_attempt_line(row, worker) for row in accepted]))
        dead = [e for e, _, _ in accepted if e.dead_reason]
        if dead:
            with connection.wrap_database_errors, cursor.copy(_COPY_DEAD) as copy:
                copy.write("".join([_dead_line(e) for e in dead]))
    return {row[0].id for row in accepted}


#: An ending with its start and finish as text, which two statements need.
_Row = tuple[Ending, str, str]


def _update(
    cursor: Any,
    sql: str,
    endings: list[Ending],
    worker_id: str | None,
    columns: Callable[[list[_Row]], list[str]],
) -> list[_Row]:
    if not endings:
        return []
    # Rows are locked in the order of their ids by everybody, so that no two groups wait for each other.
    endings.sort(key=_id)
    rows = [(e, NULL if e.started_at is None else _time(e.started_at), _time(e.finished_at)) for e in endings]
    cursor.execute(sql, [*columns(rows), worker_id])
    if cursor.rowcount == len(rows):
        return rows
    counted = {str(row[0]) for row in cursor.fetchall()}
    return [row for row in rows if row[0].id in counted]


_id = attrgetter("id")


def _succeed_columns(rows: list[_Row]) -> list[str]:
    return [
        _plain([e.id for e, _, _ in rows]),
        _plain([str(e.number) for e, _, _ in rows]),
        _plain([started for _, started, _ in rows]),
        _plain([finished for _, _, finished in rows]),
        _array([e.result for e, _, _ in rows]),
        _array([e.progress for e, _, _ in rows]),
    ]


def _end_columns(rows: list[_Row]) -> list[str]:
    return [
        _plain([e.id for e, _, _ in rows]),
        _plain([str(e.number) for e, _, _ in rows]),
        _plain(["NULL" if started is NULL else started for _, started, _ in rows]),
        _plain([finished if e.job_state in FINAL else "NULL" for e, _, finished in rows]),
        _plain([str(e.job_state) for e, _, _ in rows]),
        _array([e.progress for e, _, _ in rows]),
        _plain([str(e.failures) for e, _, _ in rows]),
        _plain([str(e.deaths) for e, _, _ in rows]),
        _plain(["NULL" if e.run_after is None else _time(e.run_after) for e, _, _ in rows]),
    ]


def mark_running(connection: BaseDatabaseWrapper, starts: list[Start], worker_id: str) -> None:
    """Say `running` of jobs whose attempt is under way, unless their outcome is there already."""
    starts = sorted(starts)
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        cursor.execute(_BY_KEY)
        cursor.execute(
            _RUN,
            [
                _plain([s.id for s in starts]),
                _plain([str(s.number) for s in starts]),
                _plain([_time(s.started_at) for s in starts]),
                _array([s.progress for s in starts]),
                UUID(worker_id),
            ],
        )


def _attempt_line(row: _Row, worker: str) -> str:
    e, started, finished = row
    head = f"{e.id}\t{e.number}\t{e.attempt_state}\t{worker}\t{started}\t{finished}\t"
    if e.error_class or e.error:
        return f"{head}{_text(e.error_class)}\t{_text(e.error)}\t{_text(e.traceback)}\n"
    return head + "\t\t\n"


def _dead_line(e: Ending) -> str:
    return (
        f"{ids.new_text()}\t{e.id}\t{_text(e.task)}\t{e.queue}\t{e.dead_reason}\t{e.number}\t"
        f"{_text(e.error_class)}\t{_text(e.error)}\t{_time(e.finished_at)}\n"
    )


def _text(value: str) -> str:
    """A value as COPY text."""
    if "\\" in value:
        value = value.replace("\\", "\\\\")
    if value.isprintable():  # no tab, newline or carriage return
        return value
    return value.replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def _plain(values: list[str]) -> str:
    """An array literal of values that need no quotes."""
    return "{" + ",".join(values) + "}"


def _array(values: list[str | None]) -> str:
    """An array literal of any text; an empty one when all are null, as unnest fills up with nulls."""
    if not any(values) and not any(v is not None for v in values):
        return "{}"
    quoted = [
        "NULL" if v is None else '"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"' for v in values
    ]
    return "{" + ",".join(quoted) + "}"


@lru_cache(maxsize=64)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _time(value: float) -> str:
    """Epoch seconds as a timestamptz in text, to the microsecond."""
    second, micros = divmod(round(value * 1_000_000), 1_000_000)
    return f"{_second(second)}.{micros:06d}+00"
