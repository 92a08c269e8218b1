"""The Lua scripts with very many jobs at once, and with several queues."""

from __future__ import annotations

import time

import pytest
import redis

from queue_app.dispatch import connection, finding, keys, listing, queues
from queue_app.domain.envelope import LANE
from tests.support.queue_model import QUEUE, Job, holding


@pytest.fixture
def client() -> redis.Redis:
    return connection.client()


def fill(client: redis.Redis, count: int, priority: int = 0, at: float | None = None) -> list[str]:
    """Push so many jobs and return their ids."""
    jobs = [Job(f"{priority}-{n:06}", priority, LANE) for n in range(count)]
    assert queues.push(client, QUEUE, [job.entry(at) for job in jobs]) == count
    return [job.id for job in jobs]


def test_many_at_once(client: redis.Redis) -> None:
    """More than one script call takes, and more than Lua can unpack at once."""
    low, high = fill(client, 9_001, -1), fill(client, 9_001, 1)
    assert listing.counts(client, [QUEUE])[QUEUE].waiting == 18_002
    out: list[str] = []
    while found := queues.claim(client, QUEUE, "w1.1", 2_000)[0]:
        out += [delivery.id for delivery in found]
    assert out == high + low
    assert queues.give_back(client, QUEUE, "w1.1", high[:7_000]) == 7_000
    assert [d.id for d in queues.claim(client, QUEUE, "w1.2", 5)[0]] == high[:5]
    assert queues.settle(client, QUEUE, "w1.1", high[7_000:] + low) == 11_002
    assert holding(client, high, withdraw=True) == dict.fromkeys(high[:5], "w1.2")
    assert queues.claim(client, QUEUE, "w1.1", 100)[0] == []
    assert client.exists(keys.ready(QUEUE, 1, LANE), keys.held(QUEUE, "w1.1")) == 0


def test_very_many_cancelled_are_passed_over(client: redis.Redis) -> None:
    """One claim looks at a bounded number of them, and says to come again."""
    ids = fill(client, 45_000)
    assert finding.withdraw(client, QUEUE, ids[:-1]) == {}
    claims = 0
    while not (found := queues.claim(client, QUEUE, "w1.1", 500)[0]):
        claims += 1
        assert client.exists(keys.bell(QUEUE))
        assert claims < 10
    assert [d.id for d in found] == ids[-1:]


def test_a_lane_does_not_lose_its_turn_to_cancelled_ids(client: redis.Redis) -> None:
    """Or a tenant that cancels much waits for all the turns of these."""
    first = [Job(f"a-{n}", 0, "a") for n in range(50)]
    second = [Job(f"b-{n}", 0, "b") for n in range(50)]
    assert queues.push(client, QUEUE, [job.entry(None) for job in [*first, *second]]) == 100
    finding.withdraw(client, QUEUE, [job.id for job in first[:40]])
    assert [d.id for d in queues.claim(client, QUEUE, "w1.1", 4)[0]] == ["a-40", "a-41", "b-0", "a-42"]


def test_very_many_become_due_at_once(client: redis.Redis) -> None:
    at = time.time() + 1e6
    ids = fill(client, 3_500, at=at)
    assert queues.claim(client, QUEUE, "w1.1", 500, at - 0.001)[2] == at
    out: list[str] = []
    for _ in range(100):
        out += [d.id for d in queues.claim(client, QUEUE, "w1.1", 500, at)[0]]
        if len(out) == len(ids):
            break
    assert out == ids


def test_queues_do_not_meet(client: redis.Redis) -> None:
    fill(client, 3)
    assert queues.claim(client, "other", "w1.1", 10)[0] == []
    assert finding.withdraw(client, "other", ["0-000000"]) == {}
    queues.pause(client, "other", True)
    assert len(queues.claim(client, QUEUE, "w1.1", 10)[0]) == 3


def test_holders_in_many_queues_are_found_at_once(client: redis.Redis) -> None:
    for n, queue in enumerate(["a", "b", "c"]):
        assert queues.push(client, queue, [Job(f"{queue}-{i}", 0, LANE).entry(None) for i in range(2)]) == 2
        assert len(queues.claim(client, queue, f"w1.{n}", 1)[0]) == 1
    found = finding.holders_of(
        client, {queue: [f"{queue}-0", f"{queue}-1", "?"] for queue in ("c", "a", "b")}
    )
    assert {job_id: held.holder for job_id, held in found.items()} == {
        "a-0": "w1.0",
        "b-0": "w1.1",
        "c-0": "w1.2",
    }
    assert finding.holders_of(client, {}) == finding.holders_of(client, {"a": []}) == {}


def test_scripts_are_sent_again_when_redis_has_forgotten_them(client: redis.Redis) -> None:
    ids = fill(client, 2)
    client.script_flush()
    assert [d.id for d in queues.claim(client, QUEUE, "w1.1", 5)[0]] == ids


def test_cancelled_delayed_jobs_do_not_count(client: redis.Redis) -> None:
    ids = fill(client, 3, at=time.time() + 1e6)
    finding.withdraw(client, QUEUE, ids[:2])
    found = listing.counts(client, [QUEUE])[QUEUE]
    assert (found.waiting, found.due_later) == (0, 1)
