"""Faults at single calls of the stores, in this process: each call of Redis and of the database is a point to fail at.

    stores = Stores(redis_process)
    with stores.counting() as seen: work()          # seen: the names of all calls, in order
    with stores.failing(3, AFTER): work()           # the fourth call is done, and its answer is lost

Every connection is seen, whoever opened it and in whatever thread: scripts and other commands of Redis, statements,
COPY and COMMIT of the database.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis.connection
import redis.exceptions
from django.db import Error, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from bench.runtime.servers import RedisServer
from queue_app.dispatch import connection, scripts

#: What may happen to a call. The last two end the process there: nothing more is asked of a store until `revive`.
BEFORE, AFTER, HANG = "fails before", "is done, its answer lost", "hangs until the timeout, and is done late"
DIES_BEFORE, DIES_AFTER = "the process dies before", "the process dies after"
LIVING, DYING = (BEFORE, AFTER, HANG), (DIES_BEFORE, DIES_AFTER)

#: Seconds after which a call that hangs is given up.
TIMEOUT = 0.02

_HANDSHAKE = {"HELLO", "CLIENT", "SELECT", "AUTH", "PING", "SCRIPT"}
_NAMES = {script.sha: script.name for script in vars(scripts).values() if isinstance(script, scripts.Script)}


class Died(BaseException):
    """The process was killed at this point."""


class Stores:
    """The calls of both stores, counted, one of them with a fault.

    Args:
        server: the Redis that is frozen for a moment where a call shall hang.

    Attributes:
        seen: names of the calls so far.
        hit: the call that met the fault, None until then.
    """

    def __init__(self, server: RedisServer) -> None:
        self.seen: list[str] = []
        self.hit: str | None = None
        self._server = server
        self._at = -1
        self._only = ""
        self._mode = ""
        self._dead = self._asleep = False
        self._lost: dict[int, str] = {}  # connection of Redis whose next answer does not arrive → why

    @contextlib.contextmanager
    def counting(self) -> Iterator[list[str]]:
        """Count the calls of this block."""
        with self.failing(-1, ""):
            yield self.seen

    @contextlib.contextmanager
    def failing(self, at: int, mode: str, only: str = "") -> Iterator[Stores]:
        """Let the call number `at` (0 is the first one of this block) fail in this way.

        Args:
            only: count calls of this name alone. Other threads make calls at times of their own.
        """
        self.seen, self.hit, self._at, self._mode, self._dead = [], None, at, mode, False
        self._only = only
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(connection, "PROMPT", float("inf"))  # the same calls, however slow they are
            for owner, name, wrapped in (
                (redis.connection.AbstractConnection, "send_packed_command", self._send),
                (redis.connection.AbstractConnection, "read_response", self._read),
                (CursorWrapper, "execute", self._execute),
                (CursorWrapper, "executemany", self._execute),
                (BaseDatabaseWrapper, "_commit", self._commit),
                *self._copy(),
            ):
                patch.setattr(owner, name, _around(getattr(owner, name), wrapped))
            try:
                yield self
            finally:
                if self._dead:
                    self.revive()

    @contextlib.contextmanager
    def asleep(self) -> Iterator[None]:
        """Calls of this block are neither counted nor harmed."""
        self._asleep = True
        try:
            yield
        finally:
            self._asleep = False

    def revive(self) -> None:
        """The process that died is replaced by another one: it has no connection and remembers nothing."""
        self._dead = False
        for wrapper in connections.all(initialized_only=True):
            if wrapper.connection is not None:
                with contextlib.suppress(Error):
                    wrapper.connection.close()
            wrapper.connection = None
            wrapper.in_atomic_block = wrapper.needs_rollback = wrapper.closed_in_transaction = False
            wrapper.savepoint_ids, wrapper.atomic_blocks, wrapper.run_on_commit = [], [], []
        connection.forget()

    def _arrive(self, name: str) -> str:
        """A call begins. Returns what shall happen to it."""
        if self._asleep:
            return ""
        if self._dead:
            raise Died("already")
        if self._only and name != self._only:
            return ""
        self.seen.append(name)
        if len(self.seen) - 1 != self._at:
            return ""
        self.hit = name
        if self._mode in DYING:
            self._dead = True
        if self._mode == DIES_BEFORE:
            raise Died(name)
        return self._mode

    # Redis

    def _send(self, real: Any, conn: Any, command: Any, *args: Any, **kwargs: Any) -> None:
        name = _name(command)
        if name.split()[0] in _HANDSHAKE:
            return real(conn, command, *args, **kwargs)
        what = self._arrive(f"redis {name}")
        if what == BEFORE:
            conn.disconnect()
            raise redis.exceptions.ConnectionError("injected: connection reset by peer")
        if what == HANG:
            if not conn.is_connected:
                conn.connect()
            self._server.pause()
        if what:
            self._lost[id(conn)] = what
        real(conn, command, *args, **kwargs)

    def _read(self, real: Any, conn: Any, *args: Any, **kwargs: Any) -> Any:
        what = self._lost.pop(id(conn), "")
        if not what:
            return real(conn, *args, **kwargs)
        if what == HANG:
            conn._sock.settimeout(TIMEOUT)
            try:
                return real(conn, *args, **kwargs)
            finally:
                conn.disconnect()
                self._server.resume()
        with contextlib.suppress(redis.exceptions.ResponseError):
            real(conn, *args, **kwargs)
        conn.disconnect()
        if what == DIES_AFTER:
            raise Died("after")
        raise redis.exceptions.TimeoutError("injected: timeout reading from the socket")

    # the database

    def _execute(self, real: Any, cursor: Any, sql: Any, *args: Any, **kwargs: Any) -> Any:
        words = str(sql).split()
        return self._query(cursor.db, f"sql {words[0]}", lambda: real(cursor, sql, *args, **kwargs))

    def _commit(self, real: Any, wrapper: Any) -> Any:
        return self._query(wrapper, "sql COMMIT", lambda: real(wrapper))

    def _query(self, wrapper: BaseDatabaseWrapper, name: str, call: Callable[[], Any]) -> Any:
        try:
            what = self._arrive(name)
        except Died:
            _abandon(wrapper)
            raise
        if what == AFTER and name == "sql BEGIN":
            what = BEFORE  # SQLite's, which has no line on which this answer could be lost
        if what in (BEFORE, HANG):
            _cut(wrapper)
            call()  # PostgreSQL's own error; SQLite has no connection that could be cut
            raise AssertionError(f"{name} went through a connection that is cut")
        answer = call()
        if what == AFTER:
            with contextlib.suppress(OperationalError):
                _cut(wrapper)
            with wrapper.wrap_database_errors:
                raise wrapper.Database.OperationalError("injected: the answer was lost")
        if what == DIES_AFTER:
            _abandon(wrapper)
            raise Died(name)
        return answer

    def _copy(self) -> list[tuple[Any, str, Any]]:
        try:
            import psycopg
        except ImportError:
            return []
        return [(psycopg.Cursor, "copy", self._copying)]

    @contextlib.contextmanager
    def _copying(self, real: Any, cursor: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        import psycopg

        what = self._arrive("sql COPY")
        if what in (BEFORE, HANG):
            _shut(cursor.connection)
        with real(cursor, *args, **kwargs) as copy:
            yield copy
        if what == AFTER:
            _shut(cursor.connection)
            raise psycopg.OperationalError("injected: the answer was lost")
        if what == DIES_AFTER:
            raise Died("sql COPY")


def _around(real: Any, wrapped: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        return wrapped(real, *args, **kwargs)

    return call


def _name(command: Any) -> str:
    """The verb of a packed command: a script's name, or a command of Redis."""
    first = command if isinstance(command, bytes) else b"".join(bytes(part) for part in command)[:200]
    words = first.split(b"\r\n")
    verb = words[2].decode()
    return _NAMES.get(words[4].decode(), verb) if verb in ("EVALSHA", "EVAL") else verb


def _cut(wrapper: BaseDatabaseWrapper) -> None:
    """The server goes away: PostgreSQL's socket is closed; SQLite says that it is locked."""
    if wrapper.vendor == "postgresql":
        _shut(wrapper.connection)
        return
    with wrapper.wrap_database_errors:
        raise wrapper.Database.OperationalError("injected: database is locked")


def _abandon(wrapper: BaseDatabaseWrapper) -> None:
    """What is left of a process that died: its server ends the transaction, and nobody tidies up."""
    if wrapper.connection is not None:
        if wrapper.vendor == "sqlite":
            wrapper.connection.rollback()  # cursors in this exception's traceback would keep the lock
        wrapper.connection.close()
        wrapper.closed_in_transaction = wrapper.needs_rollback = True


def _shut(raw: Any) -> None:
    with socket.socket(fileno=os.dup(raw.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)
