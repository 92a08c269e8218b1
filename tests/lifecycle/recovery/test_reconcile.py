"""Reconciliation: what Redis lost or never got is pushed again from the record, each job once and no more."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest
import redis
from django.db import connection as database
from django.test.utils import CaptureQueriesContext

from queue_app import clock, conf
from queue_app.dispatch import epochs, keys, queues
from queue_app.domain.delivery import Delivery
from queue_app.domain.states import JobState
from queue_app.lifecycle import operate, push, release
from queue_app.lifecycle.recovery import rebuild, recover, sweep
from queue_app.lifecycle.recovery.orphans import recover_orphaned as redeliver_orphans
from queue_app.models import Attempt, Job, Queue
from tests.app import tasks
from tests.support.jobs import OTHER_WORKER, Child, drain, failed, jobs, states
from tests.support.marks import committed

pytestmark = committed


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

    assert not epochs.all_open(child.client)
    assert rebuild.at_once(child.client) == 4
    assert epochs.all_open(child.client)
    assert rebuild.at_once(child.client) == 0
    assert drain() == [first, second, low]
    assert clean_redis.zrange(keys.due("default"), 0, -1) == [soon.encode()]
    assert states([far]) == ["scheduled"]


def test_rebuild_leaves_new_work_alone(clean_redis: redis.Redis) -> None:
    old = jobs(2)
    clean_redis.flushall()
    unpushed = jobs(2)  # before anybody has noticed
    client = Child().client
    assert rebuild.begin(client, "main", epochs.life_of_server(client)) == 0
    new = jobs(2)
    assert sorted(clean_redis.hkeys(keys.body("default"))) == sorted(job_id.encode() for job_id in new)
    assert rebuild.at_once(client) == 4
    assert sorted(drain()) == sorted(old + unpushed + new)
    assert drain() == []


def test_rebuild_restores_pauses_and_the_list_of_queues(clean_redis: redis.Redis) -> None:
    tasks.noop.using(queue_name="mail").enqueue()
    operate.pause("mail")
    client = Child().client
    rebuild.at_once(client)
    clean_redis.flushall()
    rebuild.at_once(client)
    assert clean_redis.exists(keys.paused("mail"))
    assert clean_redis.smembers(keys.queues()) == {b"mail"}


@pytest.mark.parametrize("paused", [True, False])
def test_pauses_are_as_the_rows_say(paused: bool, clean_redis: redis.Redis) -> None:
    operate.pause("mail")
    queues.pause(Child().client, "mail", not paused)
    Queue.objects.update(paused=paused)
    assert rebuild.sync_pauses(Child().client) == 1
    assert bool(clean_redis.exists(keys.paused("mail"))) is paused
    assert rebuild.sync_pauses(Child().client) == 0


def test_rebuild_carries_large_payloads_retries_and_deaths(clean_redis: redis.Redis) -> None:
    big = "x" * (conf.get().BODY_LIMIT + 1)
    job_id = tasks.echo.using(max_attempts=9).enqueue(big).id
    child = Child()
    (delivery,) = child.claim()
    child.end(delivery, make=lambda d: failed(d, run_at=clock.seconds() - 1))
    Job.objects.filter(pk=job_id).update(deaths=1)
    clean_redis.flushall()
    rebuild.at_once(Child().client)
    (again,) = Child().claim()
    assert (again.number, again.failures, again.deaths, again.max_attempts) == (2, 1, 1, 9)
    assert again.args is None, "too large for Redis: the record keeps it"


# rows that were committed and never pushed


@pytest.fixture
def unpushed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three jobs whose process died between the commit and the push, some time ago."""
    with monkeypatch.context() as patched:
        patched.setattr(push, "push_quietly", lambda by_queue, made: set())
        ids = jobs(3)
    monkeypatch.setattr(clock.current, "source", lambda source=clock.current.source: source() + 60.0)
    return ids


def test_sweep_pushes_what_was_never_pushed(unpushed: list[str]) -> None:
    client = Child().client
    assert drain() == []
    assert sweep.push_missing_backlog(client) == (3, None)
    assert sweep.push_missing_backlog(client) == (0, None)
    assert drain() == unpushed


def test_sweep_leaves_young_rows_to_their_own_push(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "push_quietly", lambda by_queue, made: set())
    jobs(1)
    assert sweep.push_missing_backlog(Child().client) == (0, None)


def test_sweep_goes_through_a_long_backlog_in_parts(unpushed: list[str]) -> None:
    client = Child().client
    count, behind = sweep.push_missing_backlog(client, limit=2)
    assert (count, behind) == (2, ("default", UUID(unpushed[1])))
    assert sweep.push_missing_backlog(client, limit=2, after=behind) == (1, None)
    assert drain() == unpushed


def test_sweep_does_not_deliver_what_a_child_holds(unpushed: list[str]) -> None:
    child = Child()
    sweep.push_missing_backlog(child.client)
    child.claim(2)
    assert sweep.push_missing_backlog(child.client) == (0, None)
    assert drain() == [unpushed[2]]


def test_sweep_does_not_bring_back_what_ended_while_it_looked(unpushed: list[str]) -> None:
    """Between its look at the rows and its question to Redis, a job may have run and been settled."""
    child = Child()
    sweep.push_missing_backlog(child.client)

    def rows() -> Iterator[tuple[UUID, str]]:
        for delivery in child.claim(3):
            child.end(delivery)
            yield UUID(delivery.id), "default"

    assert release.restore(child.client, rows()) == 0
    assert drain() == []


#: What a sweep is about to restore: queue → (entries, stamp).
Found = dict[str, tuple[list[queues.Entry], str]]


def test_a_late_push_after_the_look_of_a_sweep_is_refused(
    unpushed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The enqueuing process was slow, not dead: its push comes when the sweep has read the rows, and not pushed yet."""
    child, restore = Child(), queues.restore
    entries: list[queues.Entry] = []

    def push_first(client: redis.Redis, by_queue: Found) -> int:
        entries.extend(by_queue["default"][0])
        assert queues.push(client, "default", entries) == 0
        assert child.claim(3) == []
        return restore(client, by_queue)

    monkeypatch.setattr(queues, "restore", push_first)
    assert sweep.push_missing_backlog(child.client) == (3, None)
    assert [entry[0] for entry in entries] == unpushed
    for delivery in child.claim(3):
        child.end(delivery)
    assert queues.push(child.client, "default", entries) == 0, "nor does it run again what has ended"
    assert drain() == []


def test_a_late_restore_of_what_was_claimed_meanwhile_is_not_repeated(
    unpushed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep was frozen between its look and its push; meanwhile another one has pushed, and jobs have run."""
    child, restore = Child(), queues.restore
    late: list[Found] = []

    def sweep_and_claim_first(client: redis.Redis, by_queue: Found) -> int:
        late.append(by_queue)
        with monkeypatch.context() as patched:
            patched.setattr(queues, "restore", restore)
            assert sweep.push_missing_backlog(client) == (3, None)
        (done, _) = child.claim(2)
        child.end(done)
        return restore(client, by_queue)

    monkeypatch.setattr(queues, "restore", sweep_and_claim_first)
    assert sweep.push_missing_backlog(child.client) == (0, None)
    assert [entry[0] for entry in late[0]["default"][0]] == unpushed
    assert child.held() == {unpushed[1]}
    assert drain() == [unpushed[2]]


def test_a_child_that_starts_while_rows_are_looked_at_keeps_what_it_claims(unpushed: list[str]) -> None:
    """A sweep of a long backlog takes a while; a child that is replaced meanwhile must not be overlooked."""
    client = Child().client
    sweep.push_missing_backlog(client)
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
    monkeypatch.setattr(clock.current, "source", lambda source=clock.current.source: source() + 101)
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
    monkeypatch.setattr(clock.current, "source", lambda source=clock.current.source: source() + 100)
    client = Child().client
    assert release.load_due(client, limit=2) == 2
    assert client.zrange(keys.due("default"), 0, -1) == [ids[3], ids[2]]


def test_rows_whose_time_has_come_say_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [tasks.noop.using(run_after=seconds).enqueue().id for seconds in (10, 500)]
    assert release.promote_due(Child().client) == 0
    monkeypatch.setattr(clock.current, "source", lambda source=clock.current.source: source() + 11)
    assert release.promote_due(Child().client) == 1
    assert states(ids) == ["queued", "scheduled"]


# rows that say running, and nobody runs them


def age(*ids: str, seconds: float = 3_600) -> None:
    """Make rows look as if their attempt had begun long ago."""
    Job.objects.filter(pk__in=ids).update(last_attempted_at=clock.now() - timedelta(seconds=seconds))


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
    assert rebuild.at_once(Child(1, OTHER_WORKER).client) == 0
    assert redeliver_orphans(Child(1, OTHER_WORKER).client) == 1
    attempt = Attempt.objects.get()
    assert (attempt.state, attempt.error) == ("lost", "its worker and Redis were lost")
    assert [(d.id, d.number) for d in Child(2, OTHER_WORKER).claim(5)] == [(job_id, 2)]
    assert redeliver_orphans(Child(1, OTHER_WORKER).client) == 0


def test_arguments_are_read_of_those_alone_that_are_lost(clean_redis: redis.Redis) -> None:
    kept, gone = Child(1), Child(1, OTHER_WORKER)
    jobs(2)
    held, lost = run_for_long(kept), run_for_long(gone)
    with CaptureQueriesContext(database) as queries:
        assert redeliver_orphans(kept.client) == 0
    assert not [q["sql"] for q in queries if "payload" in q["sql"]]
    clean_redis.delete(keys.held("default", gone.holder))
    with CaptureQueriesContext(database) as queries:
        assert redeliver_orphans(kept.client) == 1
    read = [q["sql"] for q in queries if "payload" in q["sql"]]
    assert read and not [sql for sql in read if UUID(held.id).hex in sql.replace("-", "")]
    assert states([held.id, lost.id]) == ["running", "queued"]
    assert Attempt.objects.get().worker_id == UUID(OTHER_WORKER)


def test_what_a_living_child_announces_after_the_loss_is_no_orphan(clean_redis: redis.Redis) -> None:
    running, waiting, ended = jobs(3)
    child = Child()
    delivery = run_for_long(child)
    (_, last) = child.claim(2)
    child.end(last)
    assert last.id == ended
    clean_redis.flushall()
    child = Child()
    rebuild.begin(child.client, "main", epochs.life_of_server(child.client))
    started = clock.seconds() - 3_600
    announced = [(running, 1, started), (ended, 1, started), (waiting, 2, started)]
    assert recover.announce_running(child.client, child.holder, announced) == 1
    assert child.held() == {running}, "neither what has ended nor what the record expects otherwise"
    rebuild.at_once(child.client)
    assert redeliver_orphans(child.client) == 0
    assert drain() == [waiting]
    assert child.end(delivery) == {running}
    assert states([running]) == ["succeeded"]
    assert child.held() == set()


def test_what_was_given_back_is_no_orphan() -> None:
    """Its row still says that it runs: its child died after it had ended and before that was recorded."""
    (job_id,) = jobs(1)
    child = Child()
    child.claim(1)
    long_ago = clock.now() - timedelta(hours=1)
    Job.objects.filter(pk=job_id).update(
        state=JobState.RUNNING, worker_id=child.worker_id, started_at=long_ago, last_attempted_at=long_ago
    )
    queues.give_back(child.client, "default", child.holder, [job_id])
    assert redeliver_orphans(child.client) == 0
    assert not Attempt.objects.exists() and drain() == [job_id]


def test_a_long_job_that_a_living_child_holds_is_no_orphan() -> None:
    (job_id,) = jobs(1)
    child = Child()
    run_for_long(child)
    assert redeliver_orphans(child.client) == 0
    assert states([job_id]) == ["running"]
    assert child.held() == {job_id}
