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

from queue_app.domain import ids
from queue_app.domain.outcome import Ending
from queue_app.domain.states import FINAL, JobState
from queue_app.models.sql.postgresql_scans import names_of_waiting as names_of_waiting
from queue_app.models.sql.postgresql_scans import newest_waiting as newest_waiting
from queue_app.models.sql.postgresql_scans import oldest_waiting as oldest_waiting
from queue_app.models.sql.postgresql_scans import read_waiting as read_waiting
from queue_app.models.sql.postgresql_scans import walk_waiting as walk_waiting
from queue_app.models.sql.rows import CONSTANT, Accepted, NewJobs, Start

#: COPY as it is done here is psycopg 3's; with psycopg2 the generic path serves. Not imported: SQLite needs neither.
AVAILABLE = find_spec("psycopg") is not None

#: NULL in COPY's text format.
NULL = r"\N"
#: States in which no attempt can end. Said of these, not of the others: the partial indexes must not look as if they
#: could help.
_CLOSED = ", ".join(f"'{state}'" for state in sorted(FINAL | {JobState.BLOCKED}))
_FINAL = ", ".join(f"'{state}'" for state in sorted(FINAL))

#: The updates below touch the rows of one group, found by their primary keys and hashed against the values. Left to
#: itself the planner reads the whole table for each group: while there are no statistics, or as soon as they say that
#: almost every row is final.
_BY_KEY = "SET LOCAL enable_seqscan = off; SET LOCAL enable_nestloop = off; SET LOCAL enable_mergejoin = off"

_COPY_ATTEMPTS = (
    "COPY queue_app_attempt (job_id, number, state, worker_id, started_at, finished_at, error_class, error,"
    " traceback) FROM STDIN"
)
_COPY_DEAD = (
    "COPY queue_app_deadletter (id, job_id, task, queue, reason, attempts, error_class, error, fingerprint, created_at)"
    " FROM STDIN"
)
#: Successes, the bulk of all outcomes: rows and attempts in one statement, and what does not change is not sent.
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


def insert_jobs(
    connection: BaseDatabaseWrapper, jobs: NewJobs, meanwhile: Callable[[], None] | None = None
) -> None:
    """Write new job rows in the current transaction (or one of their own).

    Args:
        meanwhile: called while the server still works at them.
    """
    if len(jobs) == 1:
        _insert_one(connection, jobs)
        if meanwhile is not None:
            meanwhile()
        return
    columns = jobs.columns
    after = "".join([f"\t{_copied(getattr(jobs, column))}" for column in columns]) + "\n"
    with (
        connection.cursor() as cursor,
        connection.wrap_database_errors,
        cursor.copy(_copy_jobs(columns)) as copy,
    ):
        for start in range(0, len(jobs), 250):
            part = zip(jobs.ids[start : start + 250], jobs.payloads[start : start + 250], strict=True)
            # JSON text has no raw tab or newline: only its backslashes matter to COPY.
            copy.write(
                "".join(
                    [
                        job_id + "\t" + (text.replace("\\", "\\\\") if "\\" in text else text) + after
                        for job_id, text in part
                    ]
                )
            )
        if meanwhile is not None:
            meanwhile()


def _insert_one(connection: BaseDatabaseWrapper, jobs: NewJobs) -> None:
    from queue_app.models.sql.binary import server_cursor  # needs psycopg 3: not at the top

    statement, shared = _insert_job(jobs.columns)
    with server_cursor(connection) as cursor:
        cursor.execute(statement, (jobs.ids[0], jobs.payloads[0], *shared(jobs)))


@lru_cache(maxsize=16)
def _copy_jobs(columns: tuple[str, ...]) -> str:
    return f"COPY queue_app_job (id, payload, {', '.join(columns)}) FROM STDIN"


@lru_cache(maxsize=16)
def _insert_job(columns: tuple[str, ...]) -> tuple[str, Callable[[NewJobs], tuple[Any, ...]]]:
    """The statement, and what gives its values but for id and payload. Those that never differ stand in it."""
    given = [column for column in columns if column not in CONSTANT]
    constant = [column for column in columns if column in CONSTANT]
    names, places = ", ".join([*given, *constant]), ", %s" * len(given)
    fixed = "".join([f", {getattr(NewJobs, column)}" for column in constant])
    return (
        f"INSERT INTO queue_app_job (id, payload, {names}) VALUES (%s, %s{places}{fixed})",  # noqa: S608 - columns
        attrgetter(*given),
    )


def _copied(value: Any) -> str:
    """A value of any column as COPY text."""
    if value is None:
        return NULL
    if isinstance(value, str):
        return _text(value)
    return value.isoformat() if isinstance(value, datetime) else f"{value}"


def end_attempts(connection: BaseDatabaseWrapper, endings: list[Ending], worker_id: str | None) -> Accepted:
    """Record outcomes, each only if the row expects that attempt; with the attempt rows and dead letters.

    Args:
        worker_id: of the worker that made these attempts.

    Returns:
        The ids whose outcome counted. Commits before it returns, unless in a caller's transaction.
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

    # Rows are locked in the order of their ids by everybody, so that no two groups wait for each other.
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
        _plain([e.id for e in endings]),
        _plain([str(e.number) for e in endings]),
        _plain([_time_or(e.started_at, "NULL") for e in endings]),
        _plain([_time(e.finished_at) for e in endings]),
        _plain([str(e.job_state) for e in endings]),
        _array([e.progress for e in endings]),
        _plain([str(e.failures) for e in endings]),
        _plain([str(e.deaths) for e in endings]),
        _plain([_time_or(e.run_after, "NULL") for e in endings]),
        _plain(["t" if e.suspect else "f" for e in endings]),
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


def _attempt_line(e: Ending, worker: str) -> str:
    return (
        f"{e.id}\t{e.number}\t{e.attempt_state}\t{worker}\t{_time_or(e.started_at, NULL)}\t{_time(e.finished_at)}\t"
        f"{_text(e.error_class)}\t{_text(e.error)}\t{_text(e.traceback)}\n"
    )


def _dead_line(e: Ending) -> str:
    return (
        f"{ids.new_text()}\t{e.id}\t{_text(e.task)}\t{e.queue}\t{e.dead_reason}\t{e.number}\t"
        f"{_text(e.error_class)}\t{_text(e.error)}\t{e.fingerprint}\t{_time(e.finished_at)}\n"
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


def _time_or(value: float | None, null: str) -> str:
    return null if value is None else _time(value)
