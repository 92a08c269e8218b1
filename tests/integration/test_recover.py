"""Recovery: what the dead held is taken back, what Redis lost is pushed again, each once and no more."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest
import redis

from queue_app import clock, conf, signals
from queue_app.dispatch import keys, queues, workers
from queue_app.dispatch.body import Delivery
from queue_app.lifecycle import dispatching, operate, recover, release
from queue_app.lifecycle.outcome import Outcome
from queue_app.models import Attempt, DeadLetter, Job, Queue
from queue_app.worker.executor import timed_out
from tests import tasks
from tests.integration.support import OTHER_WORKER, WORKER, Child, drain, failed, jobs, states
from tests.support.marks import committed

pytestmark = committed


def take_back(child: Child, cause: recover.Cause, *queues: str) -> tuple[int, int]:
    return recover.take_back(child.client, child.holder, queues or ("default",), child.worker_id, cause)


def age(*ids: str, seconds: float = 3_600) -> None:
    """Make rows look as if their attempt had begun long ago."""
    Job.objects.filter(pk__in=ids).update(last_attempted_at=clock.now() - timedelta(seconds=seconds))


@pytest.fixture
def no_grace(settings: object) -> None:
    """The sweep looks at rows of the last seconds too (their ids are as old as they are)."""
    settings.QUEUE_APP = settings.QUEUE_APP | {"SWEEP_GRACE": 1.0}  # type: ignore[attr-defined]


# a child has died


def test_what_ran_is_lost_what_did_not_goes_back_and_what_was_recorded_is_let_go() -> None:
    ids = jobs(5)
    child = Child()
    ran, ended, *unstarted = child.claim(4)
    outcome_counted = recover.settle.record([child_success(ended)], WORKER)  # committed, never acknowledged
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


def child_success(delivery: Delivery) -> Outcome:
    from tests.integration.support import succeeded

    return succeeded(delivery)


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
        take_back(child, recover.Cause("killed by SIGSEGV, peak memory 812 MB", running={job_id: 1.0}))
    job = Job.objects.get(pk=job_id)
    assert (job.state, job.deaths, job.attempt) == ("failed", 3, 3)
    letter = DeadLetter.objects.get(job_id=job_id)
    assert (letter.reason, letter.attempts) == ("poison", 3)
    assert letter.error == "killed by SIGSEGV, peak memory 812 MB"
    assert drain() == []


def test_neighbours_of_a_killed_job_are_not_to_blame() -> None:
    culprit_id, neighbour_id = jobs(2)
    child = Child()
    child.claim(2)
    cause = recover.Cause(
        "killed by SIGKILL",
        running={culprit_id: clock.seconds(), neighbour_id: clock.seconds()},
        verdicts={culprit_id: lambda d, started: timed_out(None, d, started, 7.0)},
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
    assert first.end(late) == set()
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


# Redis has lost its data


def test_rebuild_puts_back_all_that_waits_in_order_and_only_once(clean_redis: redis.Redis) -> None:
    low = tasks.noop.using(priority=-5).enqueue().id
    first, second = jobs(2)
    high = tasks.noop.using(priority=7).enqueue().id
    soon = tasks.noop.using(run_after=30).enqueue().id
    far = tasks.noop.using(run_after=9_999).enqueue().id
    child = Child()
    (done,) = child.claim()
    child.end(done)
    assert done.id == high
    clean_redis.flushall()
    child = Child()

    assert recover.lost_its_data(child.client)
    assert recover.rebuild(child.client) == 4
    assert not recover.lost_its_data(child.client)
    assert recover.rebuild(child.client) == 0
    assert drain() == [first, second, low]
    assert clean_redis.zrange(keys.due("default"), 0, -1) == [soon.encode()]
    assert states([far]) == ["scheduled"]


def test_rebuild_leaves_new_work_alone(clean_redis: redis.Redis) -> None:
    old = jobs(2)
    clean_redis.flushall()
    new = jobs(2)  # pushed before anybody has noticed
    assert recover.rebuild(Child().client) == 2
    assert sorted(drain()) == sorted(old + new)


def test_rebuild_restores_pauses_and_the_list_of_queues(clean_redis: redis.Redis) -> None:
    tasks.noop.using(queue_name="mail").enqueue()
    operate.pause("mail")
    client = Child().client
    recover.rebuild(client)
    clean_redis.flushall()
    recover.rebuild(client)
    assert clean_redis.exists(keys.paused("mail"))
    assert clean_redis.smembers(keys.queues()) == {b"mail"}


@pytest.mark.parametrize("paused", [True, False])
def test_pauses_are_as_the_rows_say(paused: bool, clean_redis: redis.Redis) -> None:
    operate.pause("mail")
    queues.pause(Child().client, "mail", not paused)
    Queue.objects.update(paused=paused)
    assert recover.sync_pauses(Child().client) == 1
    assert bool(clean_redis.exists(keys.paused("mail"))) is paused
    assert recover.sync_pauses(Child().client) == 0


def test_rebuild_carries_large_payloads_retries_and_deaths(clean_redis: redis.Redis) -> None:
    big = "x" * (conf.get().BODY_LIMIT + 1)
    job_id = tasks.echo.using(max_attempts=9).enqueue(big).id
    child = Child()
    (delivery,) = child.claim()
    child.end(delivery, make=lambda d: failed(d, run_at=clock.seconds() - 1))
    Job.objects.filter(pk=job_id).update(deaths=1)
    clean_redis.flushall()
    recover.rebuild(Child().client)
    (again,) = Child().claim()
    assert (again.number, again.failures, again.deaths, again.max_attempts) == (2, 1, 1, 9)
    assert again.args is None, "too large for Redis: the record keeps it"


# rows that were committed and never pushed


@pytest.fixture
def unpushed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three jobs whose process died between the commit and the push, some time ago."""
    with monkeypatch.context() as patched:
        patched.setattr(dispatching, "push_quietly", lambda by_queue: False)
        ids = jobs(3)
    monkeypatch.setattr(clock, "_source", lambda source=clock._source: source() + 60.0)
    return ids


def test_sweep_pushes_what_was_never_pushed(unpushed: list[str]) -> None:
    client = Child().client
    assert drain() == []
    assert recover.sweep(client) == (3, None)
    assert recover.sweep(client) == (0, None)
    assert drain() == unpushed


def test_sweep_leaves_young_rows_to_their_own_push(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatching, "push_quietly", lambda by_queue: False)
    jobs(1)
    assert recover.sweep(Child().client) == (0, None)


def test_sweep_goes_through_a_long_backlog_in_parts(unpushed: list[str]) -> None:
    client = Child().client
    count, behind = recover.sweep(client, limit=2)
    assert (count, str(behind)) == (2, unpushed[1])
    assert recover.sweep(client, limit=2, after=behind) == (1, None)
    assert drain() == unpushed


def test_sweep_does_not_deliver_what_a_child_holds(unpushed: list[str]) -> None:
    child = Child()
    recover.sweep(child.client)
    child.claim(2)
    assert recover.sweep(child.client) == (0, None)
    assert drain() == [unpushed[2]]


def test_sweep_does_not_bring_back_what_ended_while_it_looked(unpushed: list[str]) -> None:
    """Between its look at the rows and its question to Redis, a job may have run and been settled."""
    child = Child()
    recover.sweep(child.client)

    def rows() -> Iterator[tuple[UUID, str]]:
        for delivery in child.claim(3):
            child.end(delivery)
            yield UUID(delivery.id), "default"

    assert release.restore(child.client, rows()) == 0
    assert drain() == []


def test_a_late_push_that_was_claimed_meanwhile_is_not_repeated(
    unpushed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The enqueuing process was slow, not dead: its push comes just before that of the sweep."""
    child, restore = Child(), queues.restore
    entries: list[queues.Entry] = []

    def push_and_claim_first(client: redis.Redis, queue: str, found: list[queues.Entry]) -> int:
        entries.extend(found)
        queues.push(client, queue, found)
        child.claim(2)
        return restore(client, queue, found)

    monkeypatch.setattr(queues, "restore", push_and_claim_first)
    assert recover.sweep(child.client) == (0, None)
    assert [entry[0] for entry in entries] == unpushed
    assert child.held() == set(unpushed[:2])
    assert drain() == [unpushed[2]]


def test_a_child_that_starts_while_rows_are_looked_at_keeps_what_it_claims(unpushed: list[str]) -> None:
    """A sweep of a long backlog takes a while; a child that is replaced meanwhile must not be overlooked."""
    client = Child().client
    recover.sweep(client)
    newcomers: list[Child] = []

    def rows() -> Iterator[tuple[UUID, str]]:
        child = Child(7)
        newcomers.append(child)
        for delivery in child.claim(3):
            yield UUID(delivery.id), "default"

    assert release.restore(client, rows()) == 0
    assert newcomers[0].held() == set(unpushed)
    assert drain() == []


# what waits for its time


def test_delayed_jobs_are_loaded_shortly_before_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    horizon = conf.get().DUE_HORIZON
    later = tasks.noop.using(run_after=horizon + 100).enqueue().id
    latest = tasks.noop.using(run_after=horizon + 1_000).enqueue().id
    client = Child().client
    assert release.load_due(client) == 0
    monkeypatch.setattr(clock, "_source", lambda source=clock._source: source() + 101)
    assert release.load_due(client) == 1
    assert release.load_due(client) == 0
    assert client.zrange(keys.due("default"), 0, -1) == [later]
    found, _, next_due = queues.claim(client, "default", "a.1", 5, now=clock.seconds() + horizon)
    assert [d.id for d in found] == [later]
    assert next_due is None
    assert states([later, latest]) == ["scheduled", "scheduled"]


def test_load_due_takes_the_soonest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    horizon = conf.get().DUE_HORIZON
    ids = [tasks.noop.using(run_after=horizon + 50 - n).enqueue().id for n in range(4)]
    monkeypatch.setattr(clock, "_source", lambda source=clock._source: source() + 100)
    client = Child().client
    assert release.load_due(client, limit=2) == 2
    assert client.zrange(keys.due("default"), 0, -1) == [ids[3], ids[2]]


def test_rows_whose_time_has_come_say_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [tasks.noop.using(run_after=seconds).enqueue().id for seconds in (10, 500)]
    assert release.say_queued() == 0
    monkeypatch.setattr(clock, "_source", lambda source=clock._source: source() + 11)
    assert release.say_queued() == 1
    assert states(ids) == ["queued", "scheduled"]


# rows that say running, and nobody runs them


def run_for_long(child: Child) -> Delivery:
    """Claim one job and have its row say `running` since an hour ago."""
    (delivery,) = child.claim()
    recover.settle.mark_running(
        [recover.settle.Start(delivery.id, delivery.number, clock.seconds(), None)], child.worker_id
    )
    age(delivery.id)
    return delivery


def test_orphans_are_delivered_again(clean_redis: redis.Redis) -> None:
    (job_id,) = jobs(1)
    run_for_long(Child())
    assert states([job_id]) == ["running"]
    clean_redis.flushall()  # and the worker is gone too
    assert recover.orphans(Child(1, OTHER_WORKER).client) == 1
    attempt = Attempt.objects.get()
    assert (attempt.state, attempt.error) == ("lost", "its worker and Redis were lost")
    assert [(d.id, d.number) for d in Child(2, OTHER_WORKER).claim(5)] == [(job_id, 2)]
    assert recover.orphans(Child(1, OTHER_WORKER).client) == 0


def test_what_a_living_child_announces_after_the_loss_is_no_orphan(clean_redis: redis.Redis) -> None:
    running, waiting, ended = jobs(3)
    child = Child()
    delivery = run_for_long(child)
    (_, last) = child.claim(2)
    child.end(last)
    assert last.id == ended
    clean_redis.flushall()
    child = Child()
    started = clock.seconds() - 3_600
    announced = [(running, 1, started), (ended, 1, started), (waiting, 2, started)]
    assert recover.announce_running(child.client, child.holder, announced) == 1
    assert child.held() == {running}, "neither what has ended nor what the record expects otherwise"
    recover.rebuild(child.client)
    assert recover.orphans(child.client) == 0
    assert drain() == [waiting]
    assert child.end(delivery) == {running}
    assert states([running]) == ["succeeded"]
    assert child.held() == set()


def test_a_long_job_that_a_living_child_holds_is_no_orphan() -> None:
    (job_id,) = jobs(1)
    child = Child()
    run_for_long(child)
    assert recover.orphans(child.client) == 0
    assert states([job_id]) == ["running"]
    assert child.held() == {job_id}
