"""P1 and P2 from the enqueuing side: Redis may be away, and nobody who enqueues suffers or loses anything."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import redis
from django.db import transaction

from bench.runtime.servers import RedisServer
from queue_app import clock, signals
from queue_app.domain.states import JobState
from queue_app.lifecycle import push, redis_breaker
from queue_app.lifecycle.recovery import rebuild, sweep
from queue_app.models import Job
from queue_app.tasks.handle import get_result
from tests.app import dtasks, tasks
from tests.support.epochs import begin_epoch
from tests.support.jobs import Child, drain, jobs, states
from tests.support.marks import committed

pytestmark = committed


@pytest.fixture
def heard() -> Iterator[list[str]]:
    """The stores that were said to be lost and to have returned, in order."""
    said: list[str] = []

    def lost(sender: object, store: str, **more: object) -> None:
        said.append(f"lost {store}")

    def returned(sender: object, store: str, downtime: float, **more: object) -> None:
        assert downtime >= 0
        said.append(f"returned {store}")

    signals.store_lost.connect(lost)
    signals.store_returned.connect(returned)
    yield said
    signals.store_lost.disconnect(lost)
    signals.store_returned.disconnect(returned)


def later(monkeypatch: pytest.MonkeyPatch, seconds: float = 60.0) -> None:
    monkeypatch.setattr(clock.current, "source", lambda source=clock.current.source: source() + seconds)


def test_enqueueing_goes_on_while_redis_is_dead(
    redis_process: RedisServer, heard: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = jobs(1)
    redis_process.kill()
    ids = [tasks.noop.enqueue().id, dtasks.noop.enqueue().id]
    with transaction.atomic():
        ids += jobs(3)
    assert states(ids) == ["queued"] * 5
    assert heard == ["lost redis"], "said once, not for each job"

    redis_process.start()
    later(monkeypatch)
    client = Child().client
    assert rebuild.at_once(client) == 6
    assert drain() == known + ids
    tasks.noop.enqueue()
    assert heard == ["lost redis", "returned redis"]


def test_what_was_not_pushed_is_swept_up_when_redis_kept_its_data(
    settings: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    reachable = settings.QUEUE_APP  # type: ignore[attr-defined]
    settings.QUEUE_APP = reachable | {"REDIS_URL": "unix:///nowhere/redis.sock"}  # type: ignore[attr-defined]
    unpushed = jobs(3)
    settings.QUEUE_APP = reachable  # type: ignore[attr-defined]
    redis_breaker.breaker.reset()
    pushed = jobs(2)
    later(monkeypatch)
    assert sweep.push_missing_backlog(Child().client) == (3, None)
    assert drain() == pushed + unpushed


def test_a_delayed_job_enqueued_meanwhile_is_loaded(
    redis_process: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis_process.kill()
    job_id = tasks.noop.using(run_after=20).enqueue().id
    redis_process.start()
    assert rebuild.at_once(Child().client) == 1
    assert drain() == []
    assert states([job_id]) == ["scheduled"]


def test_a_redis_that_hangs_costs_one_caller_a_moment_and_the_next_ones_nothing(
    redis_process: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "PUSH_TIMEOUT", 1.0)
    monkeypatch.setattr(redis_breaker, "OPEN_SECONDS", 30.0)
    redis_process.pause()
    jobs(1)
    began = time.monotonic()
    ids = [tasks.noop.enqueue().id for _ in range(5)]
    spent = time.monotonic() - began
    redis_process.resume()
    assert len(ids) == 5
    assert spent < 1.0, "the break was not kept: one of these waited for Redis"


def test_after_the_break_the_next_enqueue_tries_again(
    redis_process: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis_process.kill()
    jobs(1)
    redis_process.start()
    begin_epoch()
    during = jobs(1)
    assert drain() == [], "within the break nobody asks Redis"
    later(monkeypatch, redis_breaker.OPEN_SECONDS + 0.1)
    after = jobs(1)
    assert drain() == after
    later(monkeypatch)
    sweep.push_missing_backlog(Child().client)
    assert during[0] in drain()


@pytest.mark.parametrize("setting", [("maxmemory", "1"), ("min-replicas-to-write", "1")], ids=lambda s: s[0])
def test_a_redis_that_refuses_to_write_stops_no_enqueue(
    setting: tuple[str, str], clean_redis: redis.Redis, heard: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    name, value = setting
    before = clean_redis.config_get(name)[name]
    clean_redis.config_set(name, value)
    try:
        (job_id,) = jobs(1)
    finally:
        clean_redis.config_set(name, before)
    assert states([job_id]) == ["queued"]
    assert heard == ([] if name == "maxmemory" else ["lost redis"]), "one that is full does answer"
    assert "Traceback" not in caplog.text


def test_a_flushed_script_cache_is_nobodys_problem(clean_redis: redis.Redis) -> None:
    first = jobs(1)
    clean_redis.script_flush()
    assert drain() == first
    clean_redis.script_flush()
    second = jobs(1)
    assert drain() == second


def test_results_can_be_read_while_redis_is_away(redis_process: RedisServer) -> None:
    (job_id,) = jobs(1)
    redis_process.kill()
    result = get_result(job_id)
    assert result.status == JobState.QUEUED
    assert Job.objects.get(pk=job_id).state == JobState.QUEUED
