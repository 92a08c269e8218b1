"""Keys that Redis has lost in part are noticed, in two runs, and what waits comes back."""

from __future__ import annotations

import pytest
import redis

from queue_app import clock
from queue_app.dispatch import connection, epochs, keys
from queue_app.lifecycle import operate
from queue_app.lifecycle.recovery import rebuild
from queue_app.maintenance.duty import LeaderTerm
from queue_app.maintenance.verify_redis import VerifyRedis
from tests.app import tasks
from tests.support.jobs import Child, drain, jobs, term_of
from tests.support.marks import committed

pytestmark = committed


@pytest.fixture
def term() -> LeaderTerm:
    return term_of(connection.client())


def lost() -> bool:
    return epochs.read(connection.client())["main"].lost


@pytest.mark.parametrize(
    "key", [keys.ready("default", 0, "-"), keys.lanes("default", 0), keys.levels("default")]
)
def test_jobs_that_no_lane_leads_to_are_put_back(
    key: str, term: LeaderTerm, clean_redis: redis.Redis
) -> None:
    ids = jobs(3)
    assert clean_redis.delete(key)
    audit = VerifyRedis()
    assert audit.run(term) == 0 and not lost(), "what is seen once may be wrong"
    assert audit.run(term) == 1 and lost()
    rebuild.at_once(connection.client())
    assert drain() == ids


@pytest.mark.parametrize("filled_again", [False, True])
def test_ids_of_cancelled_jobs_do_not_hide_a_lost_lane(
    filled_again: bool, term: LeaderTerm, clean_redis: redis.Redis
) -> None:
    """They stay in their lane until a claim comes by; so as many ids are in lanes as jobs wait."""
    ids = jobs(4)
    low = tasks.noop.using(priority=-5).enqueue_many([((n,), {}) for n in range(20)])
    operate.cancel([result.id for result in low])
    assert clean_redis.delete(keys.ready("default", 0, "-"))
    if filled_again:
        ids += jobs(1)
    audit = VerifyRedis()
    assert [audit.run(term), audit.run(term)] == [0, 1] and lost()
    rebuild.at_once(connection.client())
    assert drain() == ids


def test_ids_of_cancelled_jobs_alone_are_no_loss(term: LeaderTerm) -> None:
    ids = jobs(9)
    tasks.noop.using(run_after=30).enqueue()
    Child().claim(2)
    operate.cancel(ids[2:6])
    audit = VerifyRedis()
    assert [audit.run(term), audit.run(term)] == [0, 0] and not lost()


def test_delayed_jobs_whose_times_are_gone_are_put_back(term: LeaderTerm, clean_redis: redis.Redis) -> None:
    tasks.noop.using(run_after=30).enqueue()
    assert clean_redis.delete(keys.due("default"))
    audit = VerifyRedis()
    assert [audit.run(term), audit.run(term)] == [0, 1] and lost()


def test_a_queue_whose_bodies_are_gone_is_filled_again_and_no_other_stops(
    term: LeaderTerm, clean_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = jobs(3)
    other = tasks.noop.using(queue_name="other").enqueue().id
    assert clean_redis.delete(keys.body("default"))
    monkeypatch.setattr(clock.current, "source", lambda source=clock.current.source: source() + 60)
    audit = VerifyRedis()
    assert [audit.run(term), audit.run(term)] == [0, 1]
    assert not lost()
    assert drain() == ids and drain(queue="other", serial=98) == [other]


def test_jobs_whose_holder_redis_forgot_are_delivered_again(
    term: LeaderTerm, clean_redis: redis.Redis
) -> None:
    ids = jobs(2)
    child = Child()
    child.claim(2)
    assert clean_redis.delete(keys.held("default", child.holder))
    audit = VerifyRedis()
    assert [audit.run(term), audit.run(term)] == [0, 1] and lost()
    rebuild.at_once(child.client)
    assert drain() == ids


def test_a_queue_in_good_order_is_left_alone(term: LeaderTerm) -> None:
    jobs(5)
    tasks.noop.using(run_after=30).enqueue()
    child = Child()
    child.claim(2)
    child.end(*child.claim(1))
    audit = VerifyRedis()
    assert [audit.run(term) for _ in range(3)] == [0, 0, 0] and not lost()
