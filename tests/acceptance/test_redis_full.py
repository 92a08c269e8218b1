"""P2: more waits than Redis has memory for. Pushes are refused; the backlog drains by itself."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from bench.runtime.servers import RedisServer
from bench.runtime.waiting import wait_until
from queue_app.lifecycle import operate
from queue_app.models import Attempt
from tests.app import tasks
from tests.support.marks import committed, on_postgresql_alone
from tests.support.whole_workers import StartWorker, pids, wait_for_end

pytestmark = [committed, on_postgresql_alone]

SETTINGS: dict[str, Any] = {"LEASE": 2.0, "SWEEP_GRACE": 1.0}
#: Characters of each job's arguments: nearly as many as Redis carries.
BALLAST = "x" * 6_000


@pytest.fixture
def limited(redis_process: RedisServer) -> Iterator[RedisServer]:
    yield redis_process
    redis_process.limit_memory(None)


def enqueue(count: int, **options: Any) -> list[str]:
    calls = [((BALLAST, n), {}) for n in range(count)]
    return [result.id for result in tasks.noop.using(**options).enqueue_many(calls)]


def full(client: redis.Redis) -> bool:
    """Whether it refuses what takes memory."""
    try:
        client.setrange("nothing", 0, "")  # changes nothing, and is refused all the same
    except redis.exceptions.OutOfMemoryError:
        return True
    return False


@pytest.mark.parametrize("spare", [3_000_000, 0], ids=["fills up", "is full at once"])
def test_a_backlog_above_the_memory_drains_by_itself(
    worker: StartWorker, tmp_path: Path, clean_redis: redis.Redis, limited: RedisServer, spare: int
) -> None:
    """The queue is paused meanwhile, so that nothing drains; it is resumed while memory is full."""
    process = worker("--processes", "2", settings=SETTINGS)
    children = pids(process)
    wait_until(lambda: list(clean_redis.scan_iter("*:epoch", count=1_000)), 30, "the first rebuild")
    operate.pause("default")
    ids = enqueue(200)
    ids += enqueue(50, run_after=2)
    limited.limit_memory(spare)
    for _ in range(10):
        ids += enqueue(150)
    ids += enqueue(50, run_after=2)
    wait_until(lambda: full(clean_redis), 20, "Redis is full")
    (body,) = clean_redis.scan_iter("*default*:body", count=1_000)
    assert clean_redis.hlen(body) < len(ids) / 2, "most of it did not fit"
    began = time.monotonic()
    operate.resume("default")
    assert Counter(wait_for_end(ids, 60)) == {"succeeded": len(ids)}
    print(f"{len(ids):,} jobs drained in {time.monotonic() - began:.1f} s")
    assert Attempt.objects.count() == len(ids), "none ran twice"
    assert wait_for_end([tasks.noop.enqueue().id]) == ["succeeded"]
    assert pids(process) == children
    assert process.stop() == 0
    assert "Traceback" not in process.output()
