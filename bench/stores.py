"""The two stores of a run: private servers with their default settings, emptied between measures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psutil
import psycopg
from redis import Redis

from bench.runtime.servers import PostgresqlServer, RedisServer, postgresql_server, redis_server
from bench.usage import cpu_seconds


@dataclass(frozen=True, slots=True)
class Stores:
    """PostgreSQL (fsync on, nothing configured) and Redis (no persistence)."""

    postgresql: PostgresqlServer
    redis: RedisServer

    def environment(self) -> dict[str, str]:
        """The environment in which the project uses these stores, with its own defaults for everything else."""
        return {
            "DJANGO_SETTINGS_MODULE": "bench.settings",
            "DATABASE_URL": self.postgresql.url,
            "REDIS_URL": self.redis.url,
            "SECRET_KEY": "only for benches",
            "DEBUG": "false",
            "LOG_LEVEL": "INFO",
            "LOG_FORMAT": "text",
        }

    def connect(self) -> psycopg.Connection[Any]:
        """A bare connection in autocommit mode, over the same socket as the product's."""
        return psycopg.connect(self.postgresql.url, autocommit=True)

    def client(self) -> Redis:
        """A bare client."""
        return self.redis.client(decode_responses=True)

    def cpu(self) -> tuple[float, float]:
        """CPU seconds used so far by PostgreSQL, all its processes, and by Redis."""
        return cpu_seconds(self.postgresql.pid), cpu_seconds(self.redis.pid)

    def reset(self) -> None:
        """Empty both; no worker may run. Earlier writes must not disturb the next measurement."""
        from queue_app.dispatch.connection import client as redis_client
        from queue_app.lifecycle.recovery.rebuild import at_once
        from queue_app.models import Attempt, DeadLetter, Job

        tables = ", ".join(model._meta.db_table for model in (Job, Attempt, DeadLetter))
        with self.connect() as connection, self.client() as client:
            connection.execute(f"TRUNCATE {tables}".encode())
            connection.execute("CHECKPOINT")
            client.flushall()
        at_once(redis_client())  # of nothing: begins an epoch, so that no data count as lost

    def analyze(self) -> None:
        """Have the planner know the tables, which autovacuum would else do in the middle of some measure."""
        with self.connect() as connection:
            connection.execute("ANALYZE")

    def used_memory(self) -> int:
        """Bytes that Redis holds."""
        with self.client() as client:
            return int(client.info("memory")["used_memory"])

    def filesystem(self) -> str:
        """The kind of filesystem that PostgreSQL's data is on; in memory, commits cost next to nothing."""
        data = str(self.postgresql.folder.resolve())
        mounts = [
            p
            for p in psutil.disk_partitions(all=True)
            if f"{data}/".startswith(f"{p.mountpoint.rstrip('/')}/")
        ]
        return max(mounts, key=lambda p: len(p.mountpoint)).fstype if mounts else "unknown"


@contextlib.contextmanager
def running() -> Iterator[Stores]:
    """Start both servers; they end with the block, and with this process however it ends.

    Raises:
        ServerUnavailable: says what to install.
    """
    with redis_server() as redis_one, postgresql_server() as postgresql:
        yield Stores(postgresql, redis_one)
