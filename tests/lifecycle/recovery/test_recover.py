"""Recovery: what the dead held is taken back, each job once, and the right one is blamed."""

from __future__ import annotations

from uuid import UUID

import pytest
import redis

from queue_app import clock, conf, signals
from queue_app.dispatch import keys, workers
from queue_app.dispatch.connection import Fenced
from queue_app.domain.fingerprint import fingerprint
from queue_app.domain.outcome import killed
from queue_app.lifecycle.recovery import recover
from queue_app.models import Attempt, DeadLetter, Job
from tests.app import tasks
from tests.support.jobs import OTHER_WORKER, WORKER, Child, drain, jobs, states, succeeded
from tests.support.marks import committed

pytestmark = committed


def take_back(child: Child, cause: recover.Cause, *queues: str) -> tuple[int, int]:
    return recover.take_back(child.client, child.holder, queues or ("default",), child.worker_id, cause)


# a child has died


def test_what_ran_is_lost_what_did_not_goes_back_and_what_was_recorded_is_let_go() -> None:
    ids = jobs(5)
    child = Child()
    ran, ended, *unstarted = child.claim(4)
    outcome_counted = recover.settle.record([succeeded(ended)], WORKER)  # committed, never acknowledged
    assert outcome_counted == {ended.id}

    lost, returned = take_back(child, recover.Cause("killed by SIGKILL", running={ran.id: clock.seconds()}))

    assert (lost, returned) == (1, 2)
    assert states(ids) == ["queued", "succeeded", "queued", "queued", "queued"]
    attempt = Attempt.objects.get(job_id=ran.id)
    assert (attempt.number, attempt.state, attempt.error) == (1, "lost", "killed by SIGKILL")
    assert attempt.error_class == "queue_app.exceptions.ProcessDied"
    assert str(attempt.worker_id) == WORKER
    job = Job.objects.get(pk=ran.id)
    assert (job.attempt, job.deaths, job.failures) == (1, 1, 0)
    assert not Attempt.objects.filter(job_id__in=[d.id for d in unstarted]).exists()
    assert child.held() == set()
    # The unstarted go to the front, in their order; what may have killed its process goes to the end.
    assert drain() == [unstarted[0].id, unstarted[1].id, ids[4], ran.id]


def test_the_next_delivery_of_a_lost_job_carries_the_next_number_and_the_deaths() -> None:
    (job_id,) = jobs(1)
    for death in (1, 2):
        child = Child(death)
        (delivery,) = child.claim()
        assert (delivery.id, delivery.number, delivery.deaths) == (job_id, death, death - 1)
        take_back(child, recover.Cause("exit code 3", running={job_id: clock.seconds()}))
    assert Child(3).claim()[0].number == 3


def test_a_job_that_keeps_killing_its_process_is_quarantined() -> None:
    (job_id,) = jobs(1)
    for death in range(1, conf.get().POISON_AFTER + 1):
        assert states([job_id]) == ["queued"]
        child = Child(death)
        child.claim()
        cause = f"killed by SIGSEGV, peak memory {800 + death} MB"
        take_back(child, recover.Cause(cause, running={job_id: 1.0}))
    job = Job.objects.get(pk=job_id)
    assert (job.state, job.deaths, job.attempt) == ("failed", 3, 3)
    letter = DeadLetter.objects.get(job_id=job_id)
    assert (letter.reason, letter.attempts) == ("poison", 3)
    assert letter.error == "killed by SIGSEGV, peak memory 803 MB"
    assert [(a.number, a.error[-6:]) for a in letter.deaths()] == [
        (3, "803 MB"),
        (2, "802 MB"),
        (1, "801 MB"),
    ]
    said = "killed by SIGSEGV, peak memory 12 MB"
    assert letter.fingerprint == fingerprint(
        "tests.app.tasks.noop", "queue_app.exceptions.ProcessDied", said, ""
    )
    assert drain() == []


def test_neighbours_of_a_killed_job_are_not_to_blame() -> None:
    culprit_id, neighbour_id = jobs(2)
    child = Child()
    child.claim(2)
    cause = recover.Cause(
        "killed by SIGKILL",
        running={culprit_id: clock.seconds(), neighbour_id: clock.seconds()},
        verdicts={culprit_id: lambda d, started: killed(None, d, started, 7.0)},
        blameless=True,
    )
    take_back(child, cause)
    culprit, neighbour = Job.objects.get(pk=culprit_id), Job.objects.get(pk=neighbour_id)
    assert Attempt.objects.get(job=culprit).state == "timed_out"
    assert "7.0 s" in Attempt.objects.get(job=culprit).error
    assert culprit.state == "retrying" and culprit.failures == 1
    assert Attempt.objects.get(job=neighbour).state == "lost"
    assert (neighbour.state, neighbour.deaths, neighbour.failures) == ("queued", 0, 0)


def test_who_is_not_to_blame_is_not_quarantined_for_earlier_deaths() -> None:
    (job_id,) = jobs(1)
    for death in range(1, conf.get().POISON_AFTER):
        child = Child(death)
        child.claim()
        take_back(child, recover.Cause("killed by SIGKILL", running={job_id: clock.seconds()}))
    child = Child(9)
    child.claim()
    take_back(child, recover.Cause("told to stop", running={job_id: clock.seconds()}, blameless=True))
    assert states([job_id]) == ["queued"]
    assert drain() == [job_id]


def test_taking_back_twice_changes_nothing_more() -> None:
    ids = jobs(3)
    child = Child()
    child.claim(2)
    cause = recover.Cause("exit code 1", running={ids[0]: clock.seconds()})
    assert take_back(child, cause) == (1, 1)
    assert take_back(child, cause) == (0, 0)
    assert Attempt.objects.count() == 1
    assert sorted(drain()) == sorted(ids)


def test_a_take_back_that_was_cut_off_after_its_commit_is_completed_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = jobs(3)
    child = Child()
    child.claim(2)
    cause = recover.Cause("killed by SIGKILL", running={ids[0]: clock.seconds()})

    class Cut(Exception):
        pass

    def cut(*args: object) -> None:
        raise Cut

    with monkeypatch.context() as patched:
        patched.setattr(recover.settle, "acknowledge", cut)
        with pytest.raises(Cut):
            take_back(child, cause)
    assert Attempt.objects.get().job_id == UUID(ids[0])
    take_back(child, cause)
    assert Attempt.objects.count() == 1, "a loss is recorded once"
    assert Job.objects.get(pk=ids[0]).deaths == 1
    assert sorted(drain()) == sorted(ids)


def test_where_nobody_knows_what_ran_all_that_was_held_counts_as_running() -> None:
    ids = jobs(3)
    child = Child()
    child.claim(2)
    assert take_back(child, recover.Cause("no heartbeat for 15 s")) == (2, 0)
    assert states(ids) == ["queued"] * 3
    assert Attempt.objects.filter(state="lost", started_at__isnull=False).count() == 2


def test_jobs_of_every_queue_it_served_are_taken_back() -> None:
    tasks.noop.using(queue_name="mail").enqueue()
    tasks.noop.using(queue_name="web").enqueue()
    child = Child()
    child.claim(1, "mail")
    child.claim(1, "web")
    assert take_back(child, recover.Cause("ended", running={}), "mail", "web") == (0, 2)
    assert len(drain(queue="mail")) == len(drain(queue="web")) == 1


def test_a_cancelled_or_finished_job_of_the_dead_is_not_run_again() -> None:
    (job_id,) = jobs(1)
    child = Child()
    child.claim()
    Job.objects.filter(pk=job_id).update(state="cancelled", finished_at=clock.now())
    assert take_back(child, recover.Cause("killed by SIGKILL", running={job_id: clock.seconds()})) == (0, 0)
    assert states([job_id]) == ["cancelled"]
    assert not Attempt.objects.exists()
    assert drain() == []


def test_recovery_is_announced_once_with_its_cause() -> None:
    ids = jobs(2)
    child = Child()
    child.claim(2)
    heard: list[dict[str, object]] = []

    def hear(sender: object, signal: object, **values: object) -> None:
        heard.append(values)

    signals.jobs_recovered.connect(hear)
    try:
        take_back(child, recover.Cause("exit code 9", running={ids[1]: clock.seconds()}))
    finally:
        signals.jobs_recovered.disconnect(hear)
    assert heard == [
        {"worker_id": WORKER, "lost": [ids[1]], "returned": [ids[0]], "cause": "exit code 9"},
    ]


# a worker has fallen silent


def silence(worker_id: str, client: redis.Redis) -> None:
    """Make its last heartbeat older than the lease."""
    client.hset(keys.workers(), worker_id, f"{workers.now(client) - conf.get().LEASE - 1!r}|default")


def test_only_a_worker_silent_for_longer_than_the_lease_is_buried() -> None:
    ids = jobs(2)
    silent, alive = Child(1, WORKER), Child(1, OTHER_WORKER)
    silent.claim()
    alive.claim()
    assert recover.reap(alive.client, "somebody") == 0
    silence(WORKER, silent.client)
    assert recover.reap(alive.client, "somebody") == 1
    assert silent.held() == set() and alive.held() == {ids[1]}
    assert [w.id for w in workers.listed(alive.client)] == [OTHER_WORKER]
    assert Attempt.objects.get().error == "no heartbeat for 15 s"
    assert drain() == [ids[0]]


def test_a_worker_never_buries_itself() -> None:
    child = Child()
    jobs(1)
    child.claim()
    silence(WORKER, child.client)
    assert recover.reap(child.client, WORKER) == 0
    assert len(child.held()) == 1


def test_a_late_outcome_of_a_worker_given_up_for_dead_does_not_count() -> None:
    (job_id,) = jobs(1)
    first = Child(1, WORKER)
    (late,) = first.claim()
    silence(WORKER, first.client)
    recover.reap(first.client, OTHER_WORKER)
    second = Child(1, OTHER_WORKER)
    (again,) = second.claim()
    assert again.number == 2
    with pytest.raises(Fenced):
        first.end(late)
    assert states([job_id]) == ["queued"]
    assert second.held() == {job_id}, "the refused outcome must not take the job from its successor"
    assert second.end(again) == {job_id}
    assert states([job_id]) == ["succeeded"]
    assert list(Attempt.objects.order_by("number").values_list("state", flat=True)) == ["lost", "succeeded"]


def test_a_worker_that_has_just_started_is_not_taken_for_a_dead_one() -> None:
    """Its child may claim before its keeper has sent the first heartbeat."""
    (job_id,) = jobs(1)
    newborn = Child(1, WORKER, listed=False)
    newborn.claim()
    assert recover.reap(newborn.client, OTHER_WORKER) == 0
    assert newborn.held() == {job_id}
    assert not Attempt.objects.exists()
