"""A child that cannot claim tries again, ever less often and never in step with others; what is cancelled stays so."""

from __future__ import annotations

import pytest
import redis

from bench.runtime.servers import RedisServer
from queue_app.dispatch import connection, queues
from queue_app.lifecycle import operate
from queue_app.lifecycle.recovery import rebuild
from queue_app.worker.child import child as module
from tests.app import tasks
from tests.support.draining import run_due
from tests.support.jobs import Child, jobs, states
from tests.support.lives import Finite
from tests.support.marks import committed

pytestmark = committed


def test_tries_to_claim_come_less_often_and_with_jitter(
    redis_process: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = jobs(1)
    pauses: list[float] = []

    def sleep(child: Finite, seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 12:
            redis_process.start()
            rebuild.at_once(Child().client)

    monkeypatch.setattr(Finite, "_sleep", sleep)
    redis_process.kill()
    Finite().serve()
    assert states(ids) == ["succeeded"], "it claims again by itself"
    full = [min(module.FIRST_PAUSE_SECONDS * 2**n, module.MAX_PAUSE_SECONDS) for n in range(12)]
    shares = [pause / most for pause, most in zip(pauses, full, strict=True)]
    assert all(0.5 <= share < 1.5 for share in shares)
    assert len({round(share, 6) for share in shares}) > 6, "all in step"


@pytest.mark.parametrize("what", ["a restart of Redis", "an emptied Redis", "a sweep"])
def test_a_cancelled_job_stays_cancelled(
    what: str, redis_process: RedisServer, clean_redis: redis.Redis
) -> None:
    ids = jobs(3)
    later = tasks.noop.using(run_after=5).enqueue().id
    assert sorted(operate.cancel([ids[1], later]).done) == sorted([ids[1], later])
    if what == "a restart of Redis":
        redis_process.kill()
        redis_process.start()
    elif what == "an emptied Redis":
        clean_redis.flushall()
    run_due()
    assert states([*ids, later]) == ["succeeded", "cancelled", "succeeded", "cancelled"]


def test_calls_that_fail_use_nothing_up() -> None:
    """Of an outage of minutes, with one call a second, nothing may remain."""
    client = connection.client()
    for _ in range(150):
        broken = connection.take(client)
        broken.disconnect()
        del broken  # as after an exception between a command and its answer
    assert queues.claim(client, "default", "somebody.1", 1)[0] == []
