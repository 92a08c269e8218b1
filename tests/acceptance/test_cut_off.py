"""P3: a worker that cannot reach Redis, while it reaches the database, keeps what it runs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from bench.runtime.servers import RedisServer
from bench.runtime.waiting import wait_until
from queue_app.dispatch import connection, workers
from queue_app.models import Job
from tests.app import tasks
from tests.support.marks import committed, on_postgresql_alone
from tests.support.whole_workers import StartWorker, attempts, wait_for_end, wait_for_lines

pytestmark = [committed, on_postgresql_alone]

SHORT: dict[str, Any] = {"LEASE": 2.0}


class Line:
    """The way of one worker to Redis: a socket's name and a user of its own, which can be taken away."""

    def __init__(self, server: RedisServer, client: redis.Redis, folder: Path) -> None:
        self._client = client
        self._socket = server.url.removeprefix("unix://").partition("?")[0]
        self._own = folder / "own.sock"
        self.url = f"unix://alone:secret@{self._own}?db=0"
        client.acl_setuser(
            "alone", enabled=True, passwords=["+secret"], keys=["*"], categories=["+@all"], channels=["*"]
        )
        self.mend()

    def mend(self) -> None:
        """Let the worker reach Redis."""
        os.symlink(self._socket, self._own)

    def cut(self) -> None:
        """Cut it off, and end the connections that it has."""
        self._own.unlink()
        self._client.client_kill_filter(user="alone")  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Remove the user."""
        with contextlib.suppress(redis.RedisError):
            self._client.acl_deluser("alone")


@pytest.fixture
def line(redis_process: RedisServer, clean_redis: redis.Redis, tmp_path: Path) -> Iterator[Line]:
    made = Line(redis_process, clean_redis, tmp_path)
    yield made
    made.close()


def wait_for_looks(leases: float) -> None:
    """Wait until the other worker has sent heartbeats for so many leases more."""
    client = connection.client()
    until = workers.now(client) + leases * SHORT["LEASE"]
    wait_until(lambda: max(w.beat for w in workers.listed(client)) > until, 60, "heartbeats of the other one")


def start_waiting(folder: Path, name: str) -> str:
    """A job that has started and runs until the file `release-<name>` is there."""
    job_id = tasks.wait_for_file.enqueue(str(folder), name, f"release-{name}").id
    wait_for_lines(folder, name)
    return job_id


def test_what_it_runs_is_its_own_until_its_row_is_silent_too(
    worker: StartWorker, line: Line, tmp_path: Path
) -> None:
    other = worker("--queues", "other", settings=SHORT)
    wait_until(lambda: workers.leader(connection.client()), 30, "a leader")
    alone = worker("--no-maintenance", settings=SHORT, environment={"REDIS_URL": line.url})
    first = start_waiting(tmp_path, "first")
    line.cut()
    alone.wait_for("Lost the redis: ")
    wait_for_looks(3)
    assert len(workers.listed(connection.client())) == 2
    assert attempts(first) == []
    (tmp_path / "release-first").touch()
    wait_until(lambda: Job.objects.get().state == "succeeded", 30, "the record of its success")

    line.mend()
    alone.wait_for("The redis is back after ")
    second = start_waiting(tmp_path, "second")
    assert attempts(first) == ["succeeded"]
    line.cut()
    wait_for_looks(2)
    assert attempts(second) == []
    alone.kill()
    worker(settings=SHORT)
    (tmp_path / "release-second").touch()
    assert wait_for_end([second]) == ["succeeded"]
    assert attempts(second) == ["lost", "succeeded"]
    assert Job.objects.get(pk=second).deaths == 0
    assert other.stop() == 0
