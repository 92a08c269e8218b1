"""The connection to Redis, one pool for each process and URL; and what its absence is called."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.retry import Retry

from queue_app import conf
from queue_app.domain.masking import masked, without_secrets
from queue_app.exceptions import StoreUnavailable


class Fenced(RedisError):
    """A call of a child was refused: what the child holds has been put right since it was made (see holder.py)."""


class DataLost(RedisError):
    """Redis lost its data or went back in time; the leader drops what is stale and puts back what waits (epochs.py)."""


#: Redis is at its maxmemory. What frees memory still works; what needs more is tried again later.
Full = OutOfMemoryError


#: Everything that means "not now": the caller goes on without Redis, or tries again later.
Unavailable = (RedisError, OSError, StoreUnavailable)

#: The longest that a blocking wait on the bell lasts, in seconds (DESIGN §5).
LONGEST_WAIT = 5.0

#: Seconds within which an answer is prompt.
PROMPT = 0.001

_run_id = re.compile(r"^run_id:(\w+)", re.MULTILINE).search

_lock = threading.Lock()
_clients: dict[tuple[int, str, float], redis.Redis] = {}


class _Own(threading.local):
    """What belongs to one thread: pool → a connection of it that no other thread uses."""

    def __init__(self) -> None:
        self.connections: dict[Any, Any] = {}


_own = _Own()


def client(timeout: float = 5.0) -> redis.Redis:
    """The client of this process for the setting REDIS_URL.

    No command is repeated by the client itself: whether a push that timed out took place is for the reconciler
    to find out, not for a blind second try.

    Args:
        timeout: seconds that a command may take before it counts as failed.

    Raises:
        ImproperlyConfigured: `embedded://` and no server binary is to be had.
    """
    url = conf.get().REDIS_URL
    key = (os.getpid(), url, timeout)
    found = _clients.get(key)
    if found is None:
        with _lock:
            found = _clients.get(key)
            if found is None:
                for stale in [k for k in _clients if k[0] != key[0]]:
                    del _clients[stale]  # a parent's connections are not ours to use after a fork
                found = _clients[key] = _connect(url, timeout)
    return found


def _connect(url: str, timeout: float) -> redis.Redis:
    if url.startswith("embedded:"):
        from queue_app.dispatch import embedded

        url = embedded.resolve(url)
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=timeout,
        socket_connect_timeout=min(timeout, 2.0),
        **({} if url.startswith("unix:") else {"socket_keepalive": True}),
        retry=Retry(NoBackoff(), 0),
        # The pool's own limit would count each connection that `take` has made and thrown away.
        max_connections=2**31,
        client_name="queue_app",
    )


@dataclass(frozen=True, slots=True)
class Knows:
    """What a connection knows of the server at its other end, asked when the connection was made.

    Attributes:
        run_id: names the life of the server process; empty where the server does not tell.
        clock: seconds to add to this process's monotonic clock to get the time of Redis. It is too small by at most a
            round trip.
    """

    run_id: str
    clock: float

    def argument(self, seen: str = "") -> str:
        """The first argument of a guarded script (see lua/lib/life.lua).

        Args:
            seen: "<epoch> <writes>" that the caller has seen counted; empty: it has seen none.
        """
        return f"{self.run_id}|{seen}|{self.clock!r}"


def _ask_server(connection: Any) -> Knows:
    """Asked again after a slow answer: the clock would seem to be slow by as much, and new jobs older than they are."""
    found: list[Knows] = []
    while len(found) < 3:
        asked = time.monotonic()
        found.append(_ask_once(connection))
        if time.monotonic() - asked < PROMPT:
            break
    return max(found, key=lambda knows: knows.clock)


def _ask_once(connection: Any) -> Knows:
    connection.send_packed_command(connection.pack_commands([("INFO", "server"), ("TIME",)]))
    try:
        found = _run_id(str(connection.read_response()))
    except ResponseError as error:  # access control, or a proxy that does not know the command
        if isinstance(error, ReadOnlyError):
            raise
        found = None
    seconds, micros = connection.read_response()
    return Knows(found[1] if found else "", int(seconds) + int(micros) / 1e6 - time.monotonic())


def fresh(client: redis.Redis) -> Knows:
    """What a new connection learns of the server."""
    connection = client.connection_pool.make_connection()
    try:
        connection.connect()
        return _ask_server(connection)
    finally:
        connection.disconnect()


def take(client: redis.Redis) -> Any:
    """This thread's own connection of a client's pool, for commands without the pool's accounts; `put` it back. Its
    attribute `queue_app_knows` says which life of which server is at the other end.

    One that is not put back, because something was raised between a command and its answer, is closed when it is
    collected: its answer must not be taken for another's. One that the server closed meanwhile (its `timeout`, a
    restart) is noticed here, so that an idle hour costs no push.
    """
    connection = _own.connections.pop(client.connection_pool, None)
    if connection is None:
        connection = client.connection_pool.make_connection()
    try:
        if connection.is_connected and connection.can_read():
            connection.disconnect()
    except Unavailable:
        connection.disconnect()
    if not connection.is_connected:
        connection.connect()
        connection.queue_app_knows = _ask_server(connection)
    return connection


def put(client: redis.Redis, connection: Any) -> None:
    """Keep a connection, all of whose answers were read, for this thread's next `take`."""
    if len(_own.connections) >= 4:  # of other settings, or of a parent process
        _own.connections.clear()
    _own.connections[client.connection_pool] = connection


def close(client: redis.Redis) -> None:
    """Let this thread's next `take` connect anew."""
    connection = _own.connections.pop(client.connection_pool, None)
    if connection is not None:
        connection.disconnect()


def forget() -> None:
    """Drop this process's clients, so that the next use connects anew (an embedded server is started again)."""
    _own.connections.clear()
    with _lock:
        for key, found in list(_clients.items()):
            del _clients[key]
            if key[0] == os.getpid():
                found.close()


def safe_url() -> str:
    """REDIS_URL without its login and options, for messages."""
    return masked(conf.get().REDIS_URL)


def explain(error: BaseException) -> str:
    """One line on what is wrong with Redis and what to do. For operators: it says where Redis is."""
    if isinstance(error, StoreUnavailable):  # an embedded server: it has said what to do
        return str(error)
    what, remedy = _known(error)
    if not what:
        reason = without_secrets(str(error), conf.get().REDIS_URL) or type(error).__name__
        what, remedy = f"cannot be reached ({reason})", "; start it, or correct QUEUE_APP['REDIS_URL']"
    return f"Redis at {safe_url()} {what}{remedy}."


def explain_publicly(error: BaseException) -> str:
    """One line on what is wrong with Redis, for answers to machines: no address, and no words of the server."""
    return f"Redis {_known(error)[0] or 'cannot be reached'}."


def said(error: BaseException) -> str:
    """What a failed call of either store said, for a line of the log."""
    return explain(error) if isinstance(error, RedisError | StoreUnavailable) else str(error).strip()


def unavailable(error: BaseException, around: str = "{}") -> StoreUnavailable:
    """The exception for callers of a verb that needs Redis.

    Args:
        error: what the client raised.
        around: what to say of it; `{}` stands for the explanation.
    """
    return StoreUnavailable(around.format(explain(error)), around.format(explain_publicly(error)))


@contextmanager
def asked(timeout: float) -> Iterator[redis.Redis]:
    """The client, for questions that operators ask.

    Args:
        timeout: seconds that Redis may take to answer.

    Raises:
        StoreUnavailable: Redis cannot be reached.
    """
    try:
        yield client(timeout)
    except Unavailable as error:
        raise unavailable(error) from error


def _known(error: BaseException) -> tuple[str, str]:
    """What is wrong, and what to do; empty for all that is no word of a server."""
    if isinstance(error, AuthenticationError):
        return "refused the password", "; check QUEUE_APP['REDIS_URL']"
    if isinstance(error, BusyLoadingError):
        return "is still loading its data", ""
    if isinstance(error, ReadOnlyError):
        return "is a read-only replica", "; point QUEUE_APP['REDIS_URL'] at the primary"
    if isinstance(error, DataLost):
        return "lost its data or went back in time", "; what waits is being put back"
    if isinstance(error, Full):
        return "is out of memory", "; raise its maxmemory, with the policy noeviction"
    return "", ""
