"""New rows of jobs for PostgreSQL: one INSERT for a single row, COPY for many."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from operator import attrgetter
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from queue_app.models.sql.postgresql_text import copy_value
from queue_app.models.sql.rows import CONSTANT, NewJobs

#: Rows formatted at once: the server works at one part while the next is formatted.
ROWS_PER_WRITE = 250


def insert_jobs(
    connection: BaseDatabaseWrapper, jobs: NewJobs, meanwhile: Callable[[], None] | None = None
) -> None:
    """Write new job rows in the current transaction (or one of their own).

    Args:
        meanwhile: called while the server still works at the rows.
    """
    if len(jobs) == 1:
        _insert_one(connection, jobs)
        if meanwhile is not None:
            meanwhile()
        return
    columns = jobs.columns
    after = "".join([f"\t{copy_value(getattr(jobs, column))}" for column in columns]) + "\n"
    with (
        connection.cursor() as cursor,
        connection.wrap_database_errors,
        cursor.copy(_copy_jobs(columns)) as copy,
    ):
        for start in range(0, len(jobs), ROWS_PER_WRITE):
            stop = start + ROWS_PER_WRITE
            part = zip(jobs.ids[start:stop], jobs.payloads[start:stop], strict=True)
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
    """The statement, and a function that gets its values from `NewJobs`, except id and payload. Values that are the
    same for all new rows are part of the statement."""
    given = [column for column in columns if column not in CONSTANT]
    constant = [column for column in columns if column in CONSTANT]
    names, places = ", ".join([*given, *constant]), ", %s" * len(given)
    fixed = "".join([f", {getattr(NewJobs, column)}" for column in constant])
    return (
        f"INSERT INTO queue_app_job (id, payload, {names}) VALUES (%s, %s{places}{fixed})",  # noqa: S608 - columns
        attrgetter(*given),
    )
