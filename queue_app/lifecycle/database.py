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


class _ThreadState(threading.local):
    """What is known of each thread.

    Attributes:
        has_connected: whether it has opened a connection. Most jobs touch no database: for them, `tidy` only reads
            this flag.
    """

    has_connected = False

    def reset(self) -> None:
        self.has_connected = False


_thread = _ThreadState()


def _on_connection_created(**_: Any) -> None:
    _thread.has_connected = True


connection_created.connect(_on_connection_created, dispatch_uid="queue_app.lifecycle.database")


def begin() -> None:
    """Prepare a new child: its only thread closes what it inherited, and starts without a connection."""
    refresh(close=True)
    _thread.reset()


def refresh(*, close: bool = False) -> None:
    """Close this thread's connections that are too old or broken. The next use connects again.

    Args:
        close: close all of them, also those that are fine.
    """
    for connection in connections.all(initialized_only=True):
        if close:
            connection.close()
        else:
            connection.close_if_unusable_or_obsolete()


def tidy(task: str) -> None:
    """Clean up this thread's connections after a task. A transaction that it left open is rolled back, or the next
    task's writes would become part of it. Broken and old connections are closed.

    Args:
        task: its name, for the log.
    """
    if not _thread.has_connected:
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
    """Close this thread's connections after a task was interrupted. It may have been inside a statement, so the next
    answer on the connection cannot be trusted. A PostgreSQL that still works on the statement is told to stop."""
    for connection in connections.all(initialized_only=True):
        cancel = getattr(connection.connection, "cancel", None)
        if cancel is not None:  # psycopg's
            with contextlib.suppress(Exception):
                cancel()
        connection.close()


def check_read_only(connection: BaseDatabaseWrapper) -> None:
    """Refuse a transaction that was just begun if it is read-only. PostgreSQL reports to its sessions when they may
    be, so this costs a query only then.

    Raises:
        OperationalError: it is read-only.
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
    """Close this thread's connections if a task failed with `error` because of an outage. A session that began while
    the database was read-only stays read-only for its whole life."""
    links = 0
    found: BaseException | None = error
    while found is not None and links < 20:  # the chain of causes may be a circle
        if is_outage(found):
            for connection in connections.all(initialized_only=True):
                if not connection.in_atomic_block:  # a test case's transaction must stay
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
    """Close a connection in any state, as if it had never been opened. The server rolls back what was open."""
    connection.in_atomic_block = False
    connection.savepoint_ids = []
    connection.needs_rollback = False
    connection.run_on_commit = []
    if connection.closed_in_transaction:
        connection.connection = None  # else Django waits for the end of a block that is gone
    connection.close()
