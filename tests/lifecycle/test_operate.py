"""Replay, pause and resume: what operators do to dead jobs and to whole queues."""

from __future__ import annotations

import threading
from datetime import timedelta
from uuid import uuid4

import pytest
import redis
from django.db import transaction

from bench.runtime.servers import RedisServer
from queue_app import clock, signals
from queue_app.dispatch import keys, queues
from queue_app.domain.states import DeadReason, JobState
from queue_app.lifecycle import operate
from queue_app.lifecycle.recovery import rebuild
from queue_app.models import Attempt, DeadLetter, Job, Queue
from tests.app import tasks
from tests.support.jobs import Child, die, drain, failed, jobs, states
from tests.support.marks import committed

pytestmark = committed


# replay


def test_replay_runs_dead_jobs_again_from_the_first_failure_on() -> None:
    (job_id,) = die()
    Job.objects.filter(pk=job_id).update(deaths=2)
    answer = operate.replay(jobs=[job_id])
    assert (answer.done, answer.refused) == ([job_id], {})
    job = Job.objects.get(pk=job_id)
    assert (job.state, job.failures, job.deaths, job.finished_at) == ("queued", 0, 0, None)
    assert DeadLetter.objects.get().replayed_at is not None
    child = Child(2)
    (delivery,) = child.claim()
    assert (delivery.number, delivery.failures, delivery.deaths) == (2, 0, 0)
    child.end(delivery)
    assert states([job_id]) == ["succeeded"]
    assert list(Attempt.objects.order_by("number").values_list("state", flat=True)) == ["failed", "succeeded"]


def test_a_replayed_job_that_dies_again_gets_another_letter() -> None:
    (job_id,) = die()
    operate.replay(jobs=[job_id])
    child = Child(2)
    child.end(*child.claim(), make=lambda d: failed(d, dead_reason=DeadReason.DISCARDED))
    letters = DeadLetter.objects.filter(job_id=job_id).order_by("id")
    assert [(letter.reason, letter.replayed_at is None) for letter in letters] == [
        ("exhausted", False),
        ("discarded", True),
    ]
    assert operate.replay().done == []
    assert operate.replay(DeadLetter.objects.all()).done == [job_id]


def test_a_letter_is_replayed_once() -> None:
    (job_id,) = die()
    assert operate.replay(DeadLetter.objects.all()).done == [job_id]
    assert operate.replay(DeadLetter.objects.all()).done == []
    assert operate.replay(jobs=[job_id]).refused == {job_id: "It is not in the dead letters."}
    assert drain() == [job_id]


def test_replay_takes_the_oldest_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operate, "ROWS_PER_TRANSACTION", 2)
    ids = die(6)
    assert sorted(operate.replay(DeadLetter.objects.all(), limit=5).done) == ids[:5]
    assert states(ids) == ["queued"] * 5 + ["failed"]
    assert sorted(drain()) == ids[:5]


def test_replay_refuses_what_is_not_dead() -> None:
    (waiting,) = jobs(1)
    missing = str(uuid4())
    answer = operate.replay(jobs=[waiting, missing, "nonsense"])
    assert answer.done == []
    assert set(answer.refused) == {waiting, missing, "nonsense"}
    assert states([waiting]) == ["queued"]


def test_replay_works_while_redis_is_away_and_the_rebuild_delivers(redis_process: RedisServer) -> None:
    (job_id,) = die()
    redis_process.kill()
    assert operate.replay(jobs=[job_id]).done == [job_id]
    assert states([job_id]) == ["queued"]
    redis_process.start()
    rebuild.at_once(Child().client)
    assert drain() == [job_id]


def test_a_replay_that_was_rolled_back_delivers_nothing() -> None:
    (job_id,) = die()
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        operate.replay(jobs=[job_id])
        raise ZeroDivisionError
    assert states([job_id]) == ["failed"]
    assert DeadLetter.objects.get().replayed_at is None
    assert drain() == []


# pause and resume


def test_a_paused_queue_hands_out_nothing_and_takes_everything(clean_redis: redis.Redis) -> None:
    before = jobs(1)
    operate.pause("default")
    after = jobs(1)
    later = tasks.noop.using(run_after=0.01).enqueue().id
    assert queues.claim(Child().client, "default", "a.1", 5, now=clock.seconds() + 60)[0] == []
    operate.resume("default")
    found = queues.claim(Child().client, "default", "a.1", 5, now=clock.seconds() + 60)[0]
    assert sorted(d.id for d in found) == sorted([*before, *after, later])
    assert Queue.objects.get(name="default").paused is False


def test_other_queues_go_on() -> None:
    tasks.noop.using(queue_name="mail").enqueue()
    jobs(1)
    operate.pause("mail")
    assert drain(queue="mail") == []
    assert len(drain()) == 1


def test_what_was_claimed_before_the_pause_ends_normally() -> None:
    (job_id,) = jobs(1)
    child = Child()
    (delivery,) = child.claim()
    operate.pause("default")
    assert child.end(delivery) == {job_id}


def test_a_resume_wakes_a_child_at_once(clean_redis: redis.Redis) -> None:
    operate.pause("default")
    jobs(1)
    clean_redis.delete(keys.bell("default"))  # the child has taken every token, found nothing and waits
    operate.resume("default")
    assert queues.wait(Child().client, ["default"], 0.01)


def test_a_pause_that_was_rolled_back_stops_nothing(clean_redis: redis.Redis) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        operate.pause("default")
        raise ZeroDivisionError
    assert not clean_redis.exists(keys.paused("default"))


@pytest.mark.parametrize("paused", [True, False])
def test_a_pause_or_resume_while_redis_was_unreachable_is_made_up_for(
    paused: bool, settings: object, clean_redis: redis.Redis
) -> None:
    """Unreachable, not emptied: the network was gone, and Redis still has what it had."""
    client = Child().client
    rebuild.at_once(client)
    (operate.resume if paused else operate.pause)("default")
    reachable = settings.QUEUE_APP  # type: ignore[attr-defined]
    settings.QUEUE_APP = reachable | {"REDIS_URL": "unix:///nowhere/redis.sock"}  # type: ignore[attr-defined]
    (operate.pause if paused else operate.resume)("default")
    settings.QUEUE_APP = reachable  # type: ignore[attr-defined]
    assert bool(clean_redis.exists(keys.paused("default"))) is not paused

    from queue_app.maintenance.leader import Leader

    Leader("somebody", threading.Event()).step()
    assert bool(clean_redis.exists(keys.paused("default"))) is paused


@pytest.mark.parametrize("name", ["", "no spaces", "{tag}", "x" * 65])
def test_a_wrong_queue_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="queue_name is"):
        operate.pause(name)
    assert not Queue.objects.exists()


def test_every_verb_says_who_did_what() -> None:
    (dead,) = die()
    (waiting,) = jobs(1)
    heard: list[tuple[str, object, int]] = []

    def hear(sender: object, verb: str, user: object, count: int, **rest: object) -> None:
        heard.append((verb, user, count))

    signals.operated.connect(hear)
    try:
        operate.cancel([waiting, dead], user="ada")
        operate.replay(jobs=[dead], user="ada")
        operate.pause("default", user="ada")
        operate.resume("default", user="ada")
    finally:
        signals.operated.disconnect(hear)
    assert heard == [("cancel", "ada", 1), ("replay", "ada", 1), ("pause", "ada", 1), ("resume", "ada", 1)]


def test_a_retry_that_was_replayed_is_not_delayed_by_its_old_time() -> None:
    (job_id,) = die()
    Job.objects.filter(pk=job_id).update(run_after=clock.now() + timedelta(hours=1))
    operate.replay(jobs=[job_id])
    assert drain() == [job_id]
    assert Job.objects.get(pk=job_id).state == JobState.QUEUED
