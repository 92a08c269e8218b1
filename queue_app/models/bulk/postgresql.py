"""Bulk writes for PostgreSQL with psycopg 3: COPY, and UPDATE … FROM unnest(arrays).

Rows are formatted here, as COPY text and array literals, because that is several times cheaper than letting the
driver adapt thousands of values one by one. The formats: PostgreSQL manual, "COPY" (text format) and "Arrays"
(array input syntax).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from queue_app import ids
from queue_app.models.bulk.rows import Ending, NewJob, Start
from queue_app.states import FINAL, UNFINISHED, JobState

try:
    from psycopg import Connection as _Connection  # noqa: F401 - psycopg 3, not psycopg2

    AVAILABLE = True
except ImportError:
    AVAILABLE = False

#: NULL in COPY's text format.
NULL = r"\N"
_STATES = ", ".join(f"'{state}'" for state in sorted(UNFINISHED))

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
UPDATE queue_app_job AS j
SET state = 'succeeded', attempt = d.number, started_at = COALESCE(j.started_at, d.started),
    last_attempted_at = d.started, finished_at = d.finished, result = d.result, worker_id = d.worker,
    progress = COALESCE(d.progress, j.progress)
FROM unnest(%s::uuid[], %s::int[], %s::timestamptz[], %s::timestamptz[], %s::text[], %s::uuid[], %s::text[])
     AS d (id, number, started, finished, result, worker, progress)
WHERE j.id = d.id AND j.attempt = d.number - 1 AND j.state IN ({_STATES})
RETURNING j.id
"""  # noqa: S608 - constants
_END = f"""
UPDATE queue_app_job AS j
SET state = d.state, attempt = d.number, started_at = COALESCE(j.started_at, d.started),
    last_attempted_at = COALESCE(d.started, j.last_attempted_at), finished_at = d.finished, result = NULL,
    worker_id = d.worker, progress = COALESCE(d.progress, j.progress), failures = d.failures, deaths = d.deaths,
    run_after = COALESCE(d.run_after, j.run_after)
FROM unnest(%s::uuid[], %s::int[], %s::timestamptz[], %s::timestamptz[], %s::text[], %s::uuid[], %s::text[],
            %s::int[], %s::int[], %s::timestamptz[])
     AS d (id, number, started, finished, state, worker, progress, failures, deaths, run_after)
WHERE j.id = d.id AND j.attempt = d.number - 1 AND j.state IN ({_STATES})
RETURNING j.id
"""  # noqa: S608 - constants
_RUN = f"""
UPDATE queue_app_job AS j
SET state = 'running', worker_id = %s, last_attempted_at = d.started,
    started_at = COALESCE(j.started_at, d.started), progress = COALESCE(d.progress, j.progress)
FROM unnest(%s::uuid[], %s::int[], %s::timestamptz[], %s::text[]) AS d (id, number, started, progress)
WHERE j.id = d.id AND j.attempt = d.number - 1 AND j.state IN ({_STATES})
"""  # noqa: S608 - constants


def insert_jobs(connection: BaseDatabaseWrapper, jobs: list[NewJob]) -> None:
    """Write new job rows in the current transaction (or one of their own)."""
    with connection.cursor() as cursor:
        if len(jobs) == 1:
            j = jobs[0]
            cursor.execute(
                _INSERT_JOB,
                (
                    j.id,
                    j.task,
                    j.queue,
                    j.priority,
                    j.state,
                    j.payload,
                    j.backend,
                    j.run_after,
                    j.max_attempts,
                    j.timeout,
                    j.enqueued_at,
                ),
            )
            return
        now, at = jobs[0].enqueued_at, jobs[0].enqueued_at.isoformat()
        with cursor.copy(_COPY_JOBS) as copy:
            for start in range(0, len(jobs), 500):  # the server stores one part while we format the next
                copy.write(
                    "".join(
                        [
                            f"{j.id}\t{_text(j.task)}\t{j.queue}\t{j.priority}\t{j.state}\t{_text(j.payload)}\t"
                            f"{_text(j.backend)}\t{NULL if j.run_after is None else j.run_after.isoformat()}\t"
                            f"{j.max_attempts}\t{NULL if j.timeout is None else repr(j.timeout)}\t0\t0\t0\t"
                            f"{at if j.enqueued_at is now else j.enqueued_at.isoformat()}\n"
                            for j in jobs[start : start + 500]
                        ]
                    )
                )


def end_attempts(connection: BaseDatabaseWrapper, endings: list[Ending]) -> set[str]:
    """Record outcomes, each only if the row expects that attempt; with the attempt rows and dead letters.

    Returns:
        The ids whose outcome counted. Commits before it returns, unless in a caller's transaction.
    """
    good = [e for e in endings if e.job_state == JobState.SUCCEEDED]
    other = [e for e in endings if e.job_state != JobState.SUCCEEDED] if len(good) < len(endings) else []
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        accepted = _update(cursor, _SUCCEED, good, _succeed_columns) + _update(
            cursor, _END, other, _end_columns
        )
        if accepted:
            with cursor.copy(_COPY_ATTEMPTS) as copy:
                copy.write("".join([_attempt_line(e) for e in accepted]))
        dead = [e for e in accepted if e.dead_reason]
        if dead:
            with cursor.copy(_COPY_DEAD) as copy:
                copy.write("".join([_dead_line(e) for e in dead]))
    return {e.id for e in accepted}


def _update(cursor: Any, sql: str, endings: list[Ending], columns: Any) -> list[Ending]:
    if not endings:
        return []
    # Rows are locked in the order of their ids by everybody, so that no two groups wait for each other.
    endings = sorted(endings, key=_id)
    cursor.execute(sql, columns(endings))
    if cursor.rowcount == len(endings):
        return endings
    counted = {str(row[0]) for row in cursor.fetchall()}
    return [e for e in endings if e.id in counted]


def _id(ending: Ending) -> str:
    return ending.id


def _succeed_columns(endings: list[Ending]) -> list[str]:
    return [
        _plain(e.id for e in endings),
        _plain(str(e.number) for e in endings),
        _plain(_time(e.started_at) for e in endings),
        _plain(_time(e.finished_at) for e in endings),
        _array(e.result for e in endings),
        _plain(e.worker_id or "NULL" for e in endings),
        _array(e.progress for e in endings),
    ]


def _end_columns(endings: list[Ending]) -> list[str]:
    return [
        _plain(e.id for e in endings),
        _plain(str(e.number) for e in endings),
        _plain("NULL" if e.started_at is None else _time(e.started_at) for e in endings),
        _plain(_time(e.finished_at) if e.job_state in FINAL else "NULL" for e in endings),
        _plain(str(e.job_state) for e in endings),
        _plain(e.worker_id or "NULL" for e in endings),
        _array(e.progress for e in endings),
        _plain(str(e.failures) for e in endings),
        _plain(str(e.deaths) for e in endings),
        _plain("NULL" if e.run_after is None else _time(e.run_after) for e in endings),
    ]


def mark_running(connection: BaseDatabaseWrapper, starts: list[Start], worker_id: str) -> None:
    """Say `running` of jobs whose attempt is under way, unless their outcome is there already."""
    starts = sorted(starts)
    with connection.cursor() as cursor:
        cursor.execute(
            _RUN,
            [
                UUID(worker_id),
                _plain(s.id for s in starts),
                _plain(str(s.number) for s in starts),
                _plain(_time(s.started_at) for s in starts),
                _array(s.progress for s in starts),
            ],
        )


def _attempt_line(e: Ending) -> str:
    started = NULL if e.started_at is None else _time(e.started_at)
    head = (
        f"{e.id}\t{e.number}\t{e.attempt_state}\t{e.worker_id or NULL}\t{started}\t{_time(e.finished_at)}\t"
    )
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


def _plain(values: Iterable[str]) -> str:
    """An array literal of values that need no quotes."""
    return "{" + ",".join(values) + "}"


def _array(values: Iterable[str | None]) -> str:
    """An array literal of any text."""
    return (
        "{"
        + ",".join(
            ["NULL" if v is None else '"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"' for v in values]
        )
        + "}"
    )


@lru_cache(maxsize=64)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _time(value: float) -> str:
    """Epoch seconds as a timestamptz in text, to the microsecond."""
    micros = round(value * 1_000_000)
    return f"{_second(micros // 1_000_000)}.{micros % 1_000_000:06d}+00"
