"""Database connections in long-running threads: never stale, and never with a transaction left open by a task."""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import Any

from django.db import Error, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from queue_app.lifecycle.store_health import is_outage

logger = logging.getLogger(__name__)

_thread = threading.local()


def _remember_thread(**_: Any) -> None:
    _thread.connected = True


#: Most jobs of most threads never touch the database: those cost one look at a flag.
connection_created.connect(_remember_thread, dispatch_uid="queue_app.lifecycle.database")


def begin() -> None:
    """In a new child: its only thread has no connection yet, whatever its parent's had."""
    refresh(close=True)
    _thread.connected = False


def refresh(*, close: bool = False) -> None:
    """Let go of this thread's connections that are too old or broken; the next use connects anew.

    Args:
        close: all of them, whatever their state.
    """
    for connection in connections.all(initialized_only=True):
        if close:
            connection.close()
        else:
            connection.close_if_unusable_or_obsolete()


def tidy(task: str) -> None:
    """After a task: a transaction that it left open is rolled back, so that it cannot swallow the next task's
    writes; broken or old connections are dropped."""
    if not getattr(_thread, "connected", False):
        return
    for connection in connections.all(initialized_only=True):
        if connection.connection is None:
            continue
        try:
            _tidy_one(connection, task)
        except Error:
            logger.warning(
                "The connection %r was broken after task %s.", connection.alias, task, exc_info=True
            )


def drop_interrupted() -> None:
    """After a task that was interrupted, perhaps in the midst of a statement: this thread's connections are closed, as
    nobody can say what they would answer next; and a server that still works at it is told to stop."""
    for connection in connections.all(initialized_only=True):
        cancel = getattr(connection.connection, "cancel", None)
        if cancel is not None:  # psycopg's
            with contextlib.suppress(Exception):
                cancel()
        connection.close()


def check_read_only(connection: BaseDatabaseWrapper) -> None:
    """Find out, of a transaction that was just begun, whether it is read-only. PostgreSQL tells its sessions unasked
    that they may be.

    Raises:
        OperationalError: it is.
    """
    if connection.vendor != "postgresql":
        return
    info = connection.connection.info
    if "on" not in (info.parameter_status(name) for name in _READ_ONLY):
        return
    with connection.cursor() as cursor:
        cursor.execute("SHOW transaction_read_only")
        if cursor.fetchone()[0] == "on":
            raise OperationalError("it refuses writes: its transactions are read-only")


#: Parameters of a session: whether its transactions are read-only, and whether its server is a standby.
_READ_ONLY = ("default_transaction_read_only", "in_hot_standby")


def drop_refused(error: BaseException) -> None:
    """After a task that failed with `error`: if the database could not do something, this thread's connections are
    closed. A session that began while the database was read-only stays read-only for as long as it lives."""
    links = 0
    found: BaseException | None = error
    while found is not None and links < 20:  # a chain may be a circle
        if is_outage(found):
            for connection in connections.all(initialized_only=True):
                if not connection.in_atomic_block:  # that of a test case
                    connection.close()
            return
        found, links = found.__cause__ or found.__context__, links + 1


def _tidy_one(connection: BaseDatabaseWrapper, task: str) -> None:
    if connection.in_atomic_block or not connection.get_autocommit():
        logger.error("Task %s left a transaction open on %r; it was rolled back.", task, connection.alias)
        abandon(connection)
    else:
        connection.close_if_unusable_or_obsolete()


def abandon(connection: BaseDatabaseWrapper) -> None:
    """Close a connection whatever its state, as if it had never been opened: the server rolls back what was open."""
    connection.in_atomic_block = False
    connection.savepoint_ids = []
    connection.needs_rollback = False
    connection.run_on_commit = []
    if connection.closed_in_transaction:
        connection.connection = None  # Django would wait for the end of a block that has gone
    connection.close()
