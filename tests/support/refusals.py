"""A database that answers and refuses: everything that is written, or what is written into one table."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from django.db import connection


@contextlib.contextmanager
def read_only() -> Iterator[None]:
    """This thread's session may not write: its next transactions are read-only."""
    sqlite = connection.vendor == "sqlite"
    connection.ensure_connection()
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA query_only = ON" if sqlite else "SET default_transaction_read_only = on")
    try:
        yield
    finally:
        connection.close()


@contextlib.contextmanager
def renamed(table: str, column: str) -> Iterator[None]:
    """A column is missing."""
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME COLUMN {column} TO renamed")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {table} RENAME COLUMN renamed TO {column}")


@contextlib.contextmanager
def refused(table: str, when: str = "", *, event: str = "INSERT", column: str = "job_id") -> Iterator[None]:
    """An integrity error for each row that is written into `table`.

    Args:
        when: only for this id.
        event: INSERT or UPDATE.
        column: that holds the id.
    """
    postgresql = connection.vendor == "postgresql"
    condition = ""
    if when:
        value = when if postgresql else when.replace("-", "")
        condition = f"WHEN (NEW.{column} = '{value}')"
    with connection.cursor() as cursor:
        if postgresql:
            cursor.execute(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                " RAISE EXCEPTION 'refused on purpose' USING ERRCODE = '23514'; END $$"
            )
        action = (
            "EXECUTE FUNCTION refuse()"
            if postgresql
            else "BEGIN SELECT RAISE(ABORT, 'refused on purpose'); END"
        )
        cursor.execute(f"CREATE TRIGGER refuse BEFORE {event} ON {table} FOR EACH ROW {condition} {action}")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TRIGGER refuse ON {table}" if postgresql else "DROP TRIGGER refuse")
            if postgresql:
                cursor.execute("DROP FUNCTION refuse()")
