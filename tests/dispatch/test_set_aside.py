"""Jobs set aside for a worker that knows their task: in no lane, cancelled like others, taken in order."""

from __future__ import annotations

import pytest
import redis

from queue_app.dispatch import connection, keys, queues, set_aside
from queue_app.dispatch.holder import revoke_calls
from queue_app.lifecycle import operate, release
from queue_app.lifecycle.recovery import sweep
from queue_app.models import Job
from queue_app.queries.jobs import waiting_for_task
from queue_app.queries.queues import depths_of
from tests.support.jobs import Child, drain, jobs
from tests.support.marks import committed

pytestmark = committed

NEED = "|tests.app.tasks.noop"


def park(*ids: str, child: Child | None = None) -> int:
    child = child or Child()
    child.claim(100)
    return set_aside.put(child.client, "default", child.holder, NEED, ids)


def take(count: int = 100, child: Child | None = None) -> list[str]:
    """The ids that a child gets that knows the task."""
    child = child or Child(7)
    found, _ = set_aside.take(child.client, "default", NEED, child.holder, count)
    assert {delivery.id for delivery in found} <= child.held()
    return [delivery.id for delivery in found]


def test_they_wait_in_no_lane_and_are_taken_in_order(clean_redis: redis.Redis) -> None:
    ids = jobs(3)
    child = Child()
    assert park(*reversed(ids), child=child) == 3
    assert child.held() == set() and drain() == []
    assert depths_of(["default"]) == {"default": {"waiting": 0, "due_later": 0, "set_aside": 3}}
    (young,) = jobs(1)
    assert set_aside.requirements(child.client, ["default", "other"]) == {"default": [NEED]}
    assert take() == ids, "the oldest first"
    assert not clean_redis.exists(keys.unknown("default"), keys.unknown_of("default", NEED))
    assert take() == [] and drain() == [young]


def test_as_many_are_taken_as_are_wanted() -> None:
    ids = jobs(5)
    park(*ids)
    child = Child(7)
    found, left = set_aside.take(child.client, "default", NEED, child.holder, 2)
    assert ([d.id for d in found], left) == (ids[:2], 3)
    assert child.end(*found) == set(ids[:2]), "they are held and acknowledged like others"
    found, left = set_aside.take(child.client, "default", NEED, child.holder, 9)
    assert ([d.id for d in found], left) == (ids[2:], 0)
    assert set_aside.requirements(child.client, ["default"]) == {}


def test_no_other_child_can_claim_them_on_their_way() -> None:
    """In a lane, those that do not know the task would set them aside again and again."""
    ids = jobs(5)
    park(*ids)
    assert take(2) == ids[:2]
    assert drain() == []


def test_none_are_taken_while_the_queue_is_paused() -> None:
    ids = jobs(2)
    park(*ids)
    child = Child(7)
    queues.pause(child.client, "default", True)
    assert set_aside.take(child.client, "default", NEED, child.holder, 9) == ([], 0)
    queues.pause(child.client, "default", False)
    assert take() == ids


def test_a_fence_keeps_out_a_call_that_comes_too_late() -> None:
    ids = jobs(2)
    park(*ids)
    late, child = Child(7), Child(7)
    revoke_calls(child.client, "default", child.holder)
    with pytest.raises(connection.Fenced):
        take(child=late)
    assert take(child=child) == ids


def test_what_a_child_does_not_hold_is_not_set_aside(clean_redis: redis.Redis) -> None:
    (job_id,) = jobs(1)
    child = Child()
    assert set_aside.put(child.client, "default", child.holder, NEED, [job_id]) == 0
    assert not clean_redis.exists(keys.unknown("default"))
    assert drain() == [job_id]


def test_who_is_set_aside_can_be_asked() -> None:
    aside, waits, _ = jobs(3)
    child = Child()
    first, second, third = child.claim(3)
    set_aside.put(child.client, "default", child.holder, NEED, [aside])
    queues.give_back(child.client, "default", child.holder, [waits])
    child.end(third)
    assert {str(pk) for pk in waiting_for_task(Job.objects.all())} == {aside}
    operate.cancel([aside])
    assert waiting_for_task(Job.objects.all()) == set()
    assert (first.id, second.id) == (aside, waits)


def test_the_cancelled_are_neither_taken_nor_kept(clean_redis: redis.Redis) -> None:
    ids = jobs(4)
    park(*ids)
    assert operate.cancel(ids[:2]).done == ids[:2]
    assert clean_redis.zcard(keys.unknown_of("default", NEED)) == 2
    assert operate.cancel([ids[2]]).done == [ids[2]]
    assert take() == [ids[3]]
    assert not clean_redis.exists(keys.unknown("default"))


def test_when_all_were_cancelled_nothing_is_wanted_any_more(clean_redis: redis.Redis) -> None:
    ids = jobs(2)
    park(*ids)
    assert operate.cancel(ids).done == ids
    assert not clean_redis.exists(keys.unknown("default"), keys.unknown_of("default", NEED))


def test_no_sweep_delivers_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from queue_app import clock
    from queue_app.lifecycle.recovery.sweep import NewRowSweep

    ids = jobs(2)
    park(*ids)
    monkeypatch.setattr(clock.current, "source", lambda source=clock.current.source: source() + 20)
    client = connection.client()
    assert NewRowSweep().run(client) == 0 and sweep.push_missing_backlog(client) == (0, None)
    assert drain() == []


def test_an_id_that_was_pushed_again_meanwhile_is_delivered_once(clean_redis: redis.Redis) -> None:
    """A cancellation was rolled back, or part of the data was lost."""
    (job_id,) = jobs(1)
    park(job_id)
    clean_redis.hdel(keys.body("default"), job_id)
    client = connection.client()
    assert release.restore(client, [(job_id, "default")]) == 1
    assert take() == [job_id]
    assert drain() == []


def test_what_was_cancelled_in_the_hands_of_a_child_is_not_set_aside(clean_redis: redis.Redis) -> None:
    """Or a child that knows its task would start it: nobody has told that one."""
    ids = jobs(2)
    child = Child()
    child.claim(2)
    assert operate.cancel(ids[:1]).requested == ids[:1]
    assert set_aside.put(child.client, "default", child.holder, NEED, ids) == 1
    assert take() == ids[1:]
    assert not child.held()
