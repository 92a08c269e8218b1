"""The connection to Redis, one pool for each process and URL; and the words for a Redis that cannot be used."""

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
    """A call of a child was refused: the child's calls were revoked after it was made (see holder.py)."""


class DataLost(RedisError):
    """Redis lost its data or went back in time. The leader drops stale data and puts back waiting jobs (epochs.py)."""


#: Redis is at its maxmemory. Calls that free memory still work; the others are tried again later.
Full = OutOfMemoryError


#: Every error that means "not now": the caller goes on without Redis, or tries again later.
Unavailable = (RedisError, OSError, StoreUnavailable)

#: The longest that a blocking wait on the bell lasts, in seconds (DESIGN §5).
LONGEST_WAIT = 5.0

#: Seconds within which an answer is prompt.
PROMPT = 0.001

_run_id = re.compile(r"^run_id:(\w+)", re.MULTILINE).search


class _Clients:
    """The clients of this process.

    Attributes:
        by_key: (process id, URL, timeout in seconds) → client. The process id keeps a forked child from using its
            parent's connections.
    """

    __slots__ = ("_lock", "by_key")

    def __init__(self) -> None:
        self.by_key: dict[tuple[int, str, float], redis.Redis] = {}
        self._lock = threading.Lock()

    def connect(self, key: tuple[int, str, float]) -> redis.Redis:
        """The client for a key that `by_key` did not have."""
        with self._lock:
            found = self.by_key.get(key)  # another thread may have made it meanwhile
            if found is None:
                for stale in [k for k in self.by_key if k[0] != key[0]]:
                    del self.by_key[stale]  # the parent's, after a fork
                found = self.by_key[key] = _connect(*key[1:])
        return found

    def reset(self) -> None:
        """Close and drop all clients."""
        with self._lock:
            for key, found in list(self.by_key.items()):
                del self.by_key[key]
                if key[0] == os.getpid():
                    found.close()


class _ThreadConnections(threading.local):
    """What belongs to one thread: pool → a connection of it that no other thread uses."""

    def __init__(self) -> None:
        self.connections: dict[Any, Any] = {}


_clients = _Clients()
_own = _ThreadConnections()


def client(timeout: float = 5.0) -> redis.Redis:
    """The client of this process for the setting REDIS_URL.

    The client itself repeats no command. A push that timed out may have been carried out: the sweep finds out.

    Args:
        timeout: seconds that a command may take before it counts as failed.

    Raises:
        StoreUnavailable: the URL is `embedded://`, and its server cannot be started.
    """
    key = (os.getpid(), conf.get().REDIS_URL, timeout)
    found = _clients.by_key.get(key)
    return _clients.connect(key) if found is None else found


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
        # The pool would count each connection that `take` made and threw away against a limit.
        max_connections=2**31,
        client_name="queue_app",
    )


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a connection knows of its server, asked when the connection was made.

    Attributes:
        run_id: names the life of the server process; empty where the server does not tell.
        clock: seconds to add to this process's monotonic clock to get the time of Redis. It is too small by at most
            one round trip.
    """

    run_id: str
    clock: float

    def argument(self, counted: str = "") -> str:
        """The first argument of a guarded script (see lua/lib/life.lua).

        Args:
            counted: "<epoch> <writes>" that the caller has seen counted; empty: it has seen none.
        """
        return f"{self.run_id}|{counted}|{self.clock!r}"


def _ask_server(connection: Any) -> ServerFacts:
    """Ask a server, up to three times if answers are slow. A slow answer makes its clock seem late, and new jobs older
    than they are."""
    found: list[ServerFacts] = []
    while len(found) < 3:
        asked = time.monotonic()
        found.append(_ask_once(connection))
        if time.monotonic() - asked < PROMPT:
            break
    return max(found, key=lambda facts: facts.clock)


def _ask_once(connection: Any) -> ServerFacts:
    connection.send_packed_command(connection.pack_commands([("INFO", "server"), ("TIME",)]))
    try:
        found = _run_id(str(connection.read_response()))
    except ResponseError as error:  # access control, or a proxy without this command
        if isinstance(error, ReadOnlyError):
            raise
        found = None
    seconds, micros = connection.read_response()
    return ServerFacts(found[1] if found else "", int(seconds) + int(micros) / 1e6 - time.monotonic())


def fresh(client: redis.Redis) -> ServerFacts:
    """What a new connection learns of its server."""
    connection = client.connection_pool.make_connection()
    try:
        connection.connect()
        return _ask_server(connection)
    finally:
        connection.disconnect()


def take(client: redis.Redis) -> Any:
    """This thread's own connection of a client's pool, past the pool's bookkeeping. The caller `put`s it back.

    A caller that fails between a command and its answer does not put the connection back. It is then closed when it is
    collected, so that its answer is not taken for another command's. A connection that the server closed meanwhile (its
    `timeout`, a restart) is noticed here, so that no push fails after an idle hour.

    Returns:
        The connection; its attribute `queue_app_server` has the `ServerFacts`.
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
        connection.queue_app_server = _ask_server(connection)
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
    """Drop this process's clients. The next use connects anew, and starts an embedded server again."""
    _own.connections.clear()
    _clients.reset()


def safe_url() -> str:
    """REDIS_URL without its login and options, for messages."""
    return masked(conf.get().REDIS_URL)


def explain(error: BaseException) -> str:
    """One line for operators: what is wrong with Redis, where it is, and what to do."""
    if isinstance(error, StoreUnavailable):  # an embedded server: its message says what to do
        return str(error)
    what, remedy = _known(error)
    if not what:
        reason = without_secrets(str(error), conf.get().REDIS_URL) or type(error).__name__
        what, remedy = f"cannot be reached ({reason})", "; start it, or correct QUEUE_APP['REDIS_URL']"
    return f"Redis at {safe_url()} {what}{remedy}."


def explain_publicly(error: BaseException) -> str:
    """One line for answers to machines: what is wrong with Redis, without its address or the server's own words."""
    return f"Redis {_known(error)[0] or 'cannot be reached'}."


def said(error: BaseException) -> str:
    """The error of a failed call of either store, as text for a log line."""
    return explain(error) if isinstance(error, RedisError | StoreUnavailable) else str(error).strip()


def unavailable(error: BaseException, around: str = "{}") -> StoreUnavailable:
    """The exception for callers of a verb that needs Redis.

    Args:
        error: what the client raised.
        around: the message; `{}` stands for the explanation.
    """
    return StoreUnavailable(around.format(explain(error)), around.format(explain_publicly(error)))


@contextmanager
def asked(timeout: float) -> Iterator[redis.Redis]:
    """The client, for reads on behalf of operators.

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
    """What is wrong, and what to do. Both are empty for errors that no server sent."""
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
