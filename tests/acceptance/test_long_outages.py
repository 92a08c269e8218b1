"""P2 and P3: a store is gone for many leases, with work going on. By hand, for as long as you like:

OUTAGE_SECONDS=60 TEST_DATABASE=postgresql python -m pytest tests/acceptance/test_long_outages.py
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from django.db import connections

from bench.runtime.servers import PostgresqlServer, RedisServer
from bench.runtime.waiting import wait_until
from bench.runtime.workers import WorkerProcess
from queue_app.lifecycle.redis_breaker import breaker
from queue_app.models import Attempt
from tests.acceptance.test_store_loss import durable
from tests.app import tasks
from tests.support.marks import committed, on_postgresql_alone
from tests.support.whole_workers import StartWorker, lines, pids, wait_for_end, wait_for_lines

pytestmark = [committed, on_postgresql_alone]

LEASE = 1.0
SECONDS = float(os.environ.get("OUTAGE_SECONDS", 5 * LEASE))


def two_workers(worker: StartWorker) -> list[WorkerProcess]:
    """Each could take the other for dead."""
    return [worker("--processes", "2", settings={"LEASE": LEASE}) for _ in range(2)]


def long_jobs(folder: Path) -> list[str]:
    """Two jobs that run from before the outage until after it."""
    ids = [tasks.wait_for_file.enqueue(str(folder), f"started-{n}", "release").id for n in range(2)]
    for n in range(2):
        wait_for_lines(folder, f"started-{n}")
    return ids


def all_as_before(
    folder: Path, ids: list[str], started: list[WorkerProcess], children: list[list[int]]
) -> None:
    """After it: each job ends with one attempt, in the processes that there were."""
    began = time.monotonic()
    (folder / "release").touch()
    assert wait_for_end(ids, 60) == ["succeeded"] * len(ids)
    print(f"{len(ids)} jobs have ended {time.monotonic() - began:.1f} s after {SECONDS:g} s of outage")
    assert Attempt.objects.count() == len(ids), "none ran twice"
    assert [len(lines(folder, f"started-{n}")) for n in range(2)] == [1, 1]
    assert [pids(process) for process in started] == children, "no process has died of it"
    assert [process.stop() for process in started] == [0, 0]
    assert not [process for process in started if "Traceback" in process.output()]


@pytest.mark.parametrize("keeps", [False, True], ids=["its data are lost", "its data are kept"])
def test_redis_is_gone_for_many_leases(
    worker: StartWorker, tmp_path: Path, redis_process: RedisServer, keeps: bool
) -> None:
    started = two_workers(worker)
    ids = long_jobs(tmp_path)
    children = [pids(process) for process in started]
    if keeps:
        redis_process.pause()
    else:
        redis_process.kill()
    end = time.monotonic() + SECONDS

    def enqueued() -> bool:
        ids.append(tasks.noop.enqueue().id)
        return time.monotonic() > end

    wait_until(enqueued, SECONDS + 60, "enqueueing goes on until the end of the outage")
    if keeps:
        redis_process.resume()
    else:
        redis_process.start()
    breaker.reset()
    all_as_before(tmp_path, ids, started, children)


def test_postgresql_is_gone_for_many_leases(
    worker: StartWorker, tmp_path: Path, postgresql_process: PostgresqlServer
) -> None:
    durable()
    started = two_workers(worker)
    ids = long_jobs(tmp_path)
    ids += [result.id for result in tasks.noop.enqueue_many([((), {})] * 200)]
    children = [pids(process) for process in started]
    postgresql_process.kill()
    connections.close_all()
    end = time.monotonic() + SECONDS
    wait_until(lambda: time.monotonic() > end, SECONDS + 5, "the end of the outage")
    postgresql_process.start()
    all_as_before(tmp_path, ids, started, children)
