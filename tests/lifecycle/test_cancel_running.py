"""Cancel jobs that a child has claimed: whatever happens to them next, they end and never start again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis
from django.db import transaction

from bench.runtime.servers import RedisServer
from queue_app import clock
from queue_app.dispatch import epochs, finding, keys, queues, workers
from queue_app.domain import outcome as outcomes
from queue_app.domain.causes import Cause
from queue_app.domain.delivery import Delivery
from queue_app.domain.outcome import Outcome
from queue_app.domain.states import AttemptState, DeadReason
from queue_app.lifecycle import cancel, operate, release, settle
from queue_app.lifecycle.recovery import rebuild, recover, sweep
from queue_app.lifecycle.recovery.orphans import recover_orphaned as redeliver_orphans
from queue_app.maintenance.retry_cancels import RetryCancels
from queue_app.models import Attempt, DeadLetter, Job
from queue_app.models.sql.rows import Start
from tests.app import tasks
from tests.support.jobs import OTHER_WORKER, WORKER, Child, drain, failed, jobs, requested, states, term_of
from tests.support.marks import committed

pytestmark = committed


ID = "0199a5c0-0000-7000-8000-000000000001"


def dropped(child: Child, deliveries: list[Delivery]) -> set[str]:
    """A child ends those of its unstarted deliveries whose jobs were cancelled: their ids."""
    marked = cancel.marked_cancelled(child.client, deliveries)
    ended = cancel.end_unstarted({d.id: d.number for d in marked})
    cancel.let_go(child.client, child.holder, [d for d in marked if d.id in ended])
    return ended


def pursued(child: Child) -> int:
    """The duty is done once."""
    client = child.client
    return RetryCancels().run(term_of(client, WORKER))


def timed_out(d: Delivery) -> Outcome:
    now = clock.seconds()
    return Outcome(d, AttemptState.TIMED_OUT, now, now, run_at=now)


def snoozed(d: Delivery) -> Outcome:
    now = clock.seconds()
    return Outcome(d, AttemptState.SNOOZED, now, now, run_at=now + 1, counts=False)


def lost(d: Delivery) -> Outcome:
    return outcomes.lost(d, Cause("killed by SIGKILL"))


def poison(d: Delivery) -> Outcome:
    d.deaths = 99
    return lost(d)


# how its attempt ends


@pytest.mark.parametrize(
    "make",
    [
        lambda d: failed(d, run_at=clock.seconds()),
        lambda d: failed(d, run_at=clock.seconds() + 9_999),
        lambda d: failed(d, dead_reason=DeadReason.EXHAUSTED),
        timed_out,
        snoozed,
        lost,
        poison,
    ],
)
def test_without_success_it_ends_cancelled(
    make: Callable[[Delivery], Outcome], caplog: pytest.LogCaptureFixture
) -> None:
    child, (delivery,) = requested()
    (outcome,) = made = [make(delivery)]
    assert child.end(delivery, make=lambda _: made[0]) == {delivery.id}
    job = Job.objects.get()
    assert (job.state, job.attempt) == ("cancelled", 1) and job.finished_at is not None
    assert Attempt.objects.get().state == outcome.state, "the attempt says what happened"
    assert not DeadLetter.objects.exists()
    assert not child.held() and drain() == []
    assert (outcome.overruled, outcome.run_at, outcome.dead_reason) == (True, None, None)
    assert sweep.push_missing_backlog(child.client)[0] == release.load_due(child.client) == 0


def test_a_success_stays_one() -> None:
    child, (delivery,) = requested()
    assert child.end(delivery) == {delivery.id}
    assert Job.objects.get().state == "succeeded"
    assert operate.cancel([delivery.id]).refused == {delivery.id: "It is succeeded already."}


def test_only_those_that_were_cancelled_are_overruled() -> None:
    first, second = jobs(2)
    child = Child()
    deliveries = child.claim(2)
    operate.cancel([second])
    child.end(*deliveries, make=lambda d: failed(d, run_at=clock.seconds()))
    assert states([first, second]) == ["retrying", "cancelled"]
    assert drain() == [first]


def test_a_retry_that_was_recorded_before_and_queued_after_the_request_does_not_start() -> None:
    """The child has committed the failure, the cancellation comes, then the child acknowledges."""
    from queue_app.lifecycle import settle

    (job_id,) = jobs(1)
    child = Child()
    outcome = failed(child.claim()[0], run_at=clock.seconds())
    accepted = settle.record([outcome], WORKER)
    assert states([job_id]) == ["retrying"]
    assert operate.cancel([job_id]).requested == [job_id]
    settle.acknowledge(child.client, child.holder, [outcome], accepted)
    assert drain() == []
    assert cancel.retry_requests() == 1
    assert states([job_id]) == ["cancelled"] and Attempt.objects.count() == 1


# what has not begun


def test_what_is_given_back_does_not_start_and_is_ended_by_the_duty() -> None:
    child, deliveries = requested(3)
    ids = [d.id for d in deliveries]
    (other,) = jobs(1)
    assert queues.give_back(child.client, "default", child.holder, ids) == 0
    assert drain() == [other] and not child.held()
    assert release.restore(child.client, [(job.pk, job.queue) for job in Job.objects.exclude(pk=other)]) == 0
    assert pursued(child) == 3
    assert set(states(ids)) == {"cancelled"} and not Attempt.objects.exists()
    assert pursued(child) == 0


def test_what_a_dead_child_had_not_begun_ends_at_its_burial() -> None:
    child, (running, unstarted) = requested(2)
    (other,) = jobs(1)
    kept = child.claim()[0]
    recover.take_back(
        child.client, child.holder, ["default"], WORKER, Cause("killed", running={running.id: 1.7e9})
    )
    assert states([running.id, unstarted.id, kept.id]) == ["cancelled", "cancelled", "queued"]
    assert Attempt.objects.get().job_id == Job.objects.get(pk=running.id).pk
    assert drain() == [other]


def test_a_child_drops_what_it_has_not_begun() -> None:
    child, deliveries = requested(3)
    (other,) = jobs(1)
    deliveries += child.claim()
    assert dropped(child, deliveries) == {d.id for d in deliveries[:3]}
    assert set(states([d.id for d in deliveries[:3]])) == {"cancelled"} and not Attempt.objects.exists()
    assert child.held() == {other}
    assert dropped(child, deliveries[3:]) == set()


def test_a_child_does_not_end_what_is_another_ones_by_now() -> None:
    (job_id,) = jobs(1)
    frozen = Child()
    stale = frozen.claim()
    recover.take_back(frozen.client, frozen.holder, ["default"], WORKER, Cause("no heartbeat"))
    other = Child(1, OTHER_WORKER)
    (delivery,) = other.claim()
    operate.cancel([job_id])
    assert dropped(frozen, stale) == set()
    assert other.end(delivery) == {job_id}
    assert states([job_id]) == ["succeeded"]


def test_a_body_of_another_release_is_not_queued_again() -> None:
    child, (delivery,) = requested()
    child.client.delete(keys.cancelled("default"))
    strange = Delivery("default", delivery.id, "0:-|nonsense", 0)
    assert strange.unreadable
    assert recover.give_up(child.client, child.holder, [strange]) == []
    assert states([delivery.id]) == ["cancelled"] and drain() == []


# what gets lost on the way


def test_rebuilding_leaves_it_out() -> None:
    child, (delivery,) = requested()
    (other,) = jobs(1)
    child.client.flushall()
    assert rebuild.at_once(child.client) == 1
    assert drain() == [other]
    assert pursued(child) == 1
    assert states([delivery.id]) == ["cancelled"]


def test_while_redis_is_empty_the_duty_waits_for_those_who_know() -> None:
    child, (delivery,) = requested()
    child.client.flushall()
    assert pursued(child) == 0
    rebuild.begin(child.client, "main", epochs.life_of_server(child.client))
    assert pursued(child) == 0
    assert states([delivery.id]) == ["queued"]
    recover.announce_running(child.client, child.holder, [(delivery.id, 1, 1.7e9)])
    rebuild.at_once(child.client)
    assert pursued(child) == 0, "it runs: its worker is asked again"
    assert workers.to_interrupt(child.client, WORKER, 1) == [delivery.id]
    child.end(delivery, make=lambda d: failed(d, run_at=clock.seconds()))
    assert states([delivery.id]) == ["cancelled"] and drain() == []


def test_a_request_that_could_not_be_sent_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    (job_id,) = jobs(1)
    child = Child()
    child.claim()

    def broken(*_: object) -> None:
        raise redis.ConnectionError("injected")

    with monkeypatch.context() as patched:
        patched.setattr(finding, "mark_cancelled", broken)
        assert operate.cancel([job_id]).requested == [job_id]
    assert not child.client.exists(keys.control(WORKER))
    assert pursued(child) == 0
    assert workers.to_interrupt(child.client, WORKER, 1) == [job_id]


def test_those_that_their_workers_hold_do_not_starve_the_others() -> None:
    ids = jobs(4)
    child = Child()
    child.claim(4)
    assert operate.cancel(ids).requested == ids
    queues.settle(child.client, "default", child.holder, ids[3:])  # its child let go of it unstarted
    assert cancel.retry_requests(limit=2) == 1
    assert states(ids) == ["queued"] * 3 + ["cancelled"]


def test_a_job_whose_row_says_running_is_asked_to_end_while_redis_is_away(redis_process: RedisServer) -> None:
    """Nobody need be asked whether it runs. Its worker hears of it from the duty, later."""
    (job_id,) = jobs(1)
    child = Child()
    rebuild.at_once(child.client)
    (delivery,) = child.claim()
    settle.mark_running([Start(job_id, delivery.number, clock.seconds(), None)], child.worker_id)
    redis_process.pause()
    try:
        assert operate.cancel([job_id]).requested == [job_id]
    finally:
        redis_process.resume()
    assert pursued(child) == 0
    assert job_id in workers.to_interrupt(child.client, child.worker_id, 1)


def test_a_request_that_was_rolled_back_is_none() -> None:
    (job_id,) = jobs(1)
    child = Child()
    (delivery,) = child.claim()
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        assert operate.cancel([job_id]).requested == [job_id]
        raise ZeroDivisionError
    assert not child.client.exists(keys.control(WORKER))
    child.end(delivery, make=lambda d: failed(d, run_at=clock.seconds()))
    assert drain() == [job_id]


def test_a_running_job_that_nobody_holds_is_left_to_those_who_look_for_orphans() -> None:
    child, (delivery,) = requested()
    began = {"started_at": clock.now(), "last_attempted_at": clock.from_seconds(1e9)}
    Job.objects.update(state="running", worker_id=WORKER, **began)
    queues.settle(child.client, "default", child.holder, [delivery.id])
    assert cancel.retry_requests() == 0
    assert redeliver_orphans(child.client) == 1
    assert states([delivery.id]) == ["cancelled"] and drain() == []


# requests


def test_each_worker_hears_of_its_own() -> None:
    first, second, third = jobs(3)
    one, two = Child(1), Child(1, OTHER_WORKER)
    one.claim()
    two.claim(2)
    operate.cancel([first, second, third])
    assert workers.to_interrupt(one.client, WORKER, 1) == [first]
    assert sorted(workers.to_interrupt(one.client, OTHER_WORKER, 1)) == sorted([second, third])
    operate.cancel([first])
    assert 0 < one.client.ttl(keys.control(WORKER)) <= workers.CONTROL_SECONDS
    workers.remove(one.client, WORKER)
    assert not one.client.exists(keys.control(WORKER)), "who has left is asked nothing"


def test_jobs_may_be_chosen_by_a_queryset() -> None:
    ids = jobs(5)
    (other,) = jobs(1, task=tasks.echo)
    child = Child()
    child.end(child.claim()[0])
    (claimed,) = child.claim()
    chosen = Job.objects.filter(task="tests.app.tasks.noop").order_by("-id")
    answer = operate.cancel(chosen, limit=3)
    assert (answer.done, answer.requested, answer.refused) == (ids[2:4], [claimed.id], {})
    assert operate.cancel(chosen).done == ids[4:]
    assert drain() == [other]
