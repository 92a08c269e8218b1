"""Two ways in which Redis goes back in time: a restart from a snapshot, and the promotion of a replica that lags."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from bench.runtime.replicas import replica_of
from bench.runtime.servers import RedisServer


class Past(Protocol):
    """A moment of the data that will come back."""

    def remember(self) -> None:
        """What Redis holds now will come back."""

    def go_back(self) -> None:
        """Kill Redis. At its address answers one that holds what was remembered."""


class Snapshot:
    """It is restarted from an RDB file."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._file: Path | None = None

    def remember(self) -> None:
        self._file = self._server.save()

    def go_back(self) -> None:
        assert self._file is not None
        self._server.kill()
        self._server.start(self._file)


class LaggingReplica:
    """A replica that was cut off is promoted."""

    def __init__(self, server: RedisServer, stack: contextlib.ExitStack) -> None:
        self._replica = stack.enter_context(replica_of(server))

    def remember(self) -> None:
        self._replica.cut_off()

    def go_back(self) -> None:
        self._replica.promote()


@contextlib.contextmanager
def past_of(server: RedisServer, way: str) -> Iterator[Past]:
    """One of `WAYS` for this server."""
    with contextlib.ExitStack() as stack:
        yield WAYS[way](server, stack)


WAYS: dict[str, Callable[[RedisServer, contextlib.ExitStack], Past]] = {
    "snapshot": lambda server, stack: Snapshot(server),
    "replica": LaggingReplica,
}
