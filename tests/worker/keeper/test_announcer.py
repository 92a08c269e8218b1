"""A keeper announces what its children run after others were told the same: by the record, or by the child itself."""

from __future__ import annotations

import redis

from queue_app import clock
from queue_app.dispatch import connection, keys, queues, set_aside, workers
from queue_app.domain.delivery import Delivery
from queue_app.lifecycle.recovery import recover
from queue_app.queries.queues import depths_of
from tests.support.jobs import OTHER_WORKER, Child, failed, jobs
from tests.support.marks import committed

pytestmark = committed


def announce(child: Child, *job_ids: str) -> None:
    recover.announce_running(child.client, child.holder, [(job_id, 1, clock.seconds()) for job_id in job_ids])


def held_by(child: Child) -> list[Delivery]:
    found = workers.held(child.client, "default", child.holder)
    return [Delivery("default", job_id, raw, at) for job_id, (at, raw) in found.items()]


def test_a_retry_waits_for_its_time_although_its_first_attempt_was_announced_late() -> None:
    """The record's row had put the job into its lane already. That entry would start the retry at once."""
    front, job_id = jobs(2)
    runs, other = Child(1), Child(2, OTHER_WORKER)
    announce(runs, job_id)
    (held,) = [d for d in held_by(runs) if d.id == job_id]
    runs.end(held, make=lambda d: failed(d, run_at=clock.seconds() + 60))
    assert [d.id for d in other.claim(10)] == [front]
    assert depths_of(["default"]) == {"default": {"waiting": 0, "due_later": 1, "set_aside": 0}}


def test_a_lane_that_was_emptied_by_it_is_listed_once_again(clean_redis: redis.Redis) -> None:
    (job_id,) = jobs(1)
    child = Child()
    announce(child, job_id)
    assert not clean_redis.keys("*:ready:*") and not clean_redis.keys("*:lanes:*")
    (young,) = jobs(1)
    (lanes,) = clean_redis.keys("*:lanes:*")
    assert clean_redis.llen(lanes) == 1
    assert [d.id for d in Child(2).claim(10)] == [young]


def test_what_was_due_later_is_not_promoted_while_it_runs(clean_redis: redis.Redis) -> None:
    (job_id,) = jobs(1)
    child = Child()
    (delivery,) = child.claim(1)
    queues.settle(child.client, "default", child.holder, [], [(job_id, clock.seconds() + 3600, delivery.raw)])
    announce(child, job_id)
    assert child.held() == {job_id} and not clean_redis.exists(keys.due("default"))


def test_a_claim_promotes_nothing_that_a_child_holds(clean_redis: redis.Redis) -> None:
    """An older release may have left it there. It made each claim of the queue fail."""
    (job_id,) = jobs(1)
    Child(1).claim(1)
    clean_redis.zadd(keys.due("default"), {job_id: clock.seconds() - 1})
    (young,) = jobs(1)
    assert [d.id for d in Child(2).claim(10)] == [young]
    assert not clean_redis.exists(keys.due("default"))


def test_what_was_set_aside_is_taken_once_by_whoever_knows_it() -> None:
    """The child set it aside after its keeper had read the board. It looks at what it holds, and lets go."""
    (job_id,) = jobs(1)
    child = Child(1)
    child.claim(1)
    set_aside.put(child.client, "default", child.holder, "|tests.app.tasks.noop", [job_id])
    announce(child, job_id)
    assert child.held() == {job_id}
    knows = Child(2)
    assert set_aside.take(connection.client(), "default", "|tests.app.tasks.noop", knows.holder, 1) == ([], 0)
    recover.give_up(child.client, child.holder, held_by(child))
    assert [d.id for d in knows.claim(10)] == [job_id] and not child.held()
