"""A replica of a private Redis, which lags behind and is promoted at the address of the one that died.

with replica_of(server) as replica:
    replica.cut_off()               # what is written from now on never reaches it
    ...
    replica.promote()               # `server` is killed; at its address answers what the replica holds
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from bench.runtime.processes import ServerUnavailable, free_port
from bench.runtime.servers import RedisServer
from bench.runtime.waiting import wait_until

#: Seconds until a new replica has its copy.
SYNC_DEADLINE = 20.0


class Replica:
    """A running replica that has copied all that its primary holds.

    Args:
        primary: it must listen on a port too, as replicas connect through that.
        server: the replica's own server, which runs.
    """

    def __init__(self, primary: RedisServer, server: RedisServer) -> None:
        self._primary = primary
        self._server = server
        with server.client() as client:
            client.replicaof("127.0.0.1", str(primary.port))
        wait_until(self._in_sync, SYNC_DEADLINE, "the replica's copy")

    def _in_sync(self) -> bool:
        with self._server.client() as own, self._primary.client() as client:
            there = int(client.info("replication")["master_repl_offset"])
            state = own.info("replication")
            return state["master_link_status"] == "up" and int(state["slave_repl_offset"]) >= there

    def cut_off(self) -> None:
        """Let it have all that was written so far, and nothing of what comes now."""
        wait_until(self._in_sync, SYNC_DEADLINE, "the replica's copy")
        with self._server.client() as client:
            client.replicaof(
                "127.0.0.1", str(free_port())
            )  # a primary that is not there: it keeps what it has

    def promote(self) -> None:
        """Kill the primary, and let the replica answer at its address, with all that it holds.

        Raises:
            ServerUnavailable: the primary's URL names a port, and this Redis is too old to take over one. Nothing has
                been done then.
        """
        primary, server = self._primary, self._server
        by_port = primary.url != primary.socket_url
        with server.client() as client:
            version = str(client.info("server")["redis_version"])
            if by_port and int(version.split(".")[0]) < 7:
                raise ServerUnavailable(f"a replica takes over a port from Redis 7 on; this one is {version}")
            primary.kill()
            client.replicaof("NO", "ONE")
            if by_port:
                client.config_set("port", primary.port)
        server.socket.rename(primary.socket)  # who connects there reaches the socket that had the other name
        primary.take_over(server)


@contextlib.contextmanager
def replica_of(
    primary: RedisServer, *options: str, start: Callable[[RedisServer], None] = RedisServer.start
) -> Iterator[Replica]:
    """Run a replica; at the end of the block it is stopped, unless it was promoted.

    Args:
        options: more arguments of redis-server, such as the primary's `--bind`.
        start: starts its server.
    """
    folder = primary.folder / "replica"
    folder.mkdir(exist_ok=True)
    server = RedisServer(folder, *options, port=free_port())
    start(server)
    try:
        yield Replica(primary, server)
    finally:
        server.stop()
