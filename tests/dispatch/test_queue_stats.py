"""The figures of queues: counted in Redis, sampled by a duty, shown by the API."""

from __future__ import annotations

from datetime import timedelta

import pytest
import redis

from queue_app import clock
from queue_app.dispatch import connection, queue_stats, set_aside
from queue_app.dispatch.queue_stats import QueueStats
from queue_app.domain.states import DeadReason
from queue_app.lifecycle import operate
from queue_app.lifecycle.recovery import rebuild
from queue_app.maintenance.sample_queues import SampleQueues
from queue_app.models import Job
from queue_app.queries.stats import over
from tests.app import tasks
from tests.support.jobs import Child, failed, jobs, term_of

pytestmark = pytest.mark.django_db(transaction=True)


def sample() -> int:
    client = connection.client()
    return SampleQueues().run(term_of(client, "a"))


def test_each_job_is_counted_in_one_place(clean_redis: redis.Redis) -> None:
    child = Child()
    waiting_for_requirement = jobs(2)
    child.claim(2)
    set_aside.put(child.client, "default", child.holder, "|no.task", waiting_for_requirement)
    jobs(6)
    child.claim(3)
    tasks.noop.using(run_after=20).enqueue()
    tasks.noop.using(queue_name="mail").enqueue()
    found = queue_stats.count(connection.client(), ["default", "mail", "empty"])
    default = found["default"]
    assert (default.waiting, default.due_later, default.held, default.set_aside) == (3, 1, 3, 2)
    assert (found["mail"].waiting, found["mail"].held, found["empty"].waiting) == (1, 0, 0)
    assert queue_stats.count(connection.client(), []) == {}


def test_ends_of_attempts_are_counted_once(clean_redis: redis.Redis) -> None:
    child = Child()
    jobs(5)
    taken = child.claim(5)
    child.end(*taken[:3])
    child.end(taken[3], make=lambda d: failed(d, dead_reason=DeadReason.EXHAUSTED))
    child.end(*taken[:3])  # refused: they have ended
    ended = queue_stats.count(child.client, ["default"])["default"].ended
    assert ended == {"succeeded": 3, "failed": 1}


def test_the_duty_samples_all_queues_and_says_who_waits_longest(
    monkeypatch: pytest.MonkeyPatch, clean_redis: redis.Redis
) -> None:
    rebuild.at_once(connection.client())
    (old, retry, _) = jobs(3)
    now = clock.now()
    Job.objects.filter(pk=old).update(run_after=now - timedelta(seconds=5))  # an old id that waits since 5 s
    Job.objects.filter(pk=retry).update(enqueued_at=now - timedelta(seconds=40))
    monkeypatch.setattr(clock.current, "source", lambda source=clock.current.source: source() + 60)
    assert sample() >= 1
    (kept,) = queue_stats.load(connection.client())
    one = kept.queues["default"]
    assert one.waiting == 3 and one.oldest == pytest.approx(100, abs=5)
    assert kept.at == pytest.approx(clock.seconds(), abs=5)


def test_an_empty_queue_waits_for_nothing(clean_redis: redis.Redis) -> None:
    rebuild.at_once(connection.client())
    child = Child()
    jobs(1)
    child.end(*child.claim(1))
    assert sample() >= 1
    assert queue_stats.load(connection.client())[-1].queues == {}, "an idle queue is left out"


def test_no_sample_is_taken_of_an_emptied_redis(clean_redis: redis.Redis) -> None:
    jobs(2)
    clean_redis.flushall()
    assert sample() == 0
    assert queue_stats.load(connection.client()) == []


def test_samples_are_kept_for_an_hour_at_most(
    monkeypatch: pytest.MonkeyPatch, clean_redis: redis.Redis
) -> None:
    monkeypatch.setattr(queue_stats, "MAX_SAMPLES", 3)
    for at in range(5):
        queue_stats.save(connection.client(), queue_stats.Sample(at, 1.0, {}))
    assert [s.at for s in queue_stats.load(connection.client())] == [2, 3, 4]


def test_a_sample_of_another_release_is_read(clean_redis: redis.Redis) -> None:
    default = '{"waiting": 4, "invented_later": 1}'
    clean_redis.lpush(
        "{jq}:stats", f'{{"at": 7.0, "seconds": 9.0, "new": 1, "queues": {{"default": {default}}}}}'
    )
    (one,) = queue_stats.load(connection.client())
    assert one.queues["default"].waiting == 4


def test_rates_over_real_samples(monkeypatch: pytest.MonkeyPatch, clean_redis: redis.Redis) -> None:
    rebuild.at_once(connection.client())
    child = Child()
    jobs(8)
    duty, term = SampleQueues(), term_of(child.client, "a")
    duty.run(term)
    child.end(*child.claim(6))
    monkeypatch.setattr(clock.current, "source", lambda source=clock.current.source: source() + 10)
    duty.run(term)
    found = over(60)
    (line,) = [line for line in found.lines if line.name == "default"]
    assert line.ended == {"succeeded": 6}
    assert line.per_second is not None and line.per_second["succeeded"] == pytest.approx(0.6, rel=0.1)
    assert line.now.waiting == 2


def test_cancelled_jobs_wait_no_longer(clean_redis: redis.Redis) -> None:
    rebuild.at_once(connection.client())
    ids = jobs(3)
    operate.cancel(ids[:2])
    assert queue_stats.count(connection.client(), ["default"])["default"].waiting == 1


def test_what_another_leader_saw_is_not_counted_again(
    monkeypatch: pytest.MonkeyPatch, clean_redis: redis.Redis
) -> None:
    rebuild.at_once(connection.client())
    child = Child()
    jobs(5)
    child.end(*child.claim(3))
    client, duty = connection.client(), SampleQueues()
    for leader in ("a", "b", "b"):
        clean_redis.delete("{jq}:leader")
        duty.run(term_of(client, leader))
    assert [s.seconds for s in queue_stats.load(client)] == [0.0] * 3, "each leadership begins anew"
    assert [s.queues["default"].ended for s in queue_stats.load(client)] == [{}] * 3


def test_only_the_busiest_of_very_many_queues_are_kept(
    monkeypatch: pytest.MonkeyPatch, clean_redis: redis.Redis
) -> None:
    monkeypatch.setattr(queue_stats, "MAX_QUEUES_PER_SAMPLE", 2)
    queues = {f"customer-{n}": QueueStats(waiting=n) for n in range(5)}
    queue_stats.save(connection.client(), queue_stats.Sample(1.0, 1.0, queue_stats.busiest(queues)))
    assert list(queue_stats.load(connection.client())[0].queues) == ["customer-4", "customer-3"]
