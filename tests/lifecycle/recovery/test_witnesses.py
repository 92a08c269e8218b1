"""A worker that is cut off from Redis alone is not dead: its row is a second witness. And silence is never poison."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.db import OperationalError
from django.db import connection as database
from django.db.models import F
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from queue_app import clock, conf
from queue_app.dispatch import connection, epochs, keys, workers
from queue_app.domain.states import JobState
from queue_app.lifecycle.recovery import liveness, rebuild, recover
from queue_app.lifecycle.recovery.orphans import recover_orphaned as redeliver_orphans
from queue_app.maintenance import reap_workers
from queue_app.models import Attempt, DeadLetter, Job, Worker
from queue_app.worker.config import QueueChoice, WorkerConfig
from queue_app.worker.keeper.heartbeat import Heartbeat
from tests.support.factories import WorkerFactory
from tests.support.jobs import OTHER_WORKER, WORKER, Child, jobs, states, term_of
from tests.support.marks import committed

pytestmark = committed

LEADER = "0190a000-0000-7000-8000-00000000000c"


def silence(child: Child, seconds: float | None = None) -> None:
    """Make a worker's last heartbeat in Redis that old; by default older than the lease."""
    age = conf.get().LEASE + 1 if seconds is None else seconds
    child.client.hset(keys.workers(), child.worker_id, f"{workers.now(child.client) - age!r}|default")


def renew(worker_id: str, seconds_ago: float = 0.0) -> None:
    """Write a worker's row as its keeper does, so many seconds ago."""
    Worker.objects.filter(pk=worker_id).update(heartbeat_at=Now())
    Worker.objects.filter(pk=worker_id).update(
        heartbeat_at=F("heartbeat_at") - timedelta(seconds=seconds_ago)
    )


@pytest.fixture
def cut_off() -> Child:
    """A child that holds a job, of a worker that Redis has not heard of for longer than the lease. Its row is fresh."""
    WorkerFactory(id=WORKER)
    renew(WORKER)
    jobs(1)
    child = Child()
    child.claim()
    silence(child)
    return child


def test_a_worker_whose_row_is_renewed_keeps_its_jobs(cut_off: Child) -> None:
    assert recover.reap(cut_off.client, LEADER) == 0
    assert cut_off.held() and [w.id for w in workers.listed(cut_off.client)] == [WORKER]
    assert Worker.objects.get().stopped_at is None and not Attempt.objects.exists()


def test_nobody_is_buried_by_data_that_are_stale(cut_off: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """They say what was held some time ago. The rebuild comes first: whoever lives says what it runs."""
    monkeypatch.setattr(reap_workers.LateHeartbeats, "is_confirmed", lambda self, worker, age: True)
    renew(WORKER, conf.get().LEASE + 1)
    epoch = cut_off.client.get(keys.epoch("main"))
    cut_off.client.set(keys.epoch("main"), f"{'0' * 40}|old|0|whole")
    assert reap_workers.ReapWorkers().run(term_of(cut_off.client, LEADER)) == 0
    assert cut_off.held() and Worker.objects.get().stopped_at is None
    cut_off.client.set(keys.epoch("main"), epoch)
    assert reap_workers.ReapWorkers().run(term_of(cut_off.client, LEADER)) == 1


def test_when_its_row_is_silent_too_it_is_dead(cut_off: Child) -> None:
    renew(WORKER, conf.get().LEASE - 1)
    assert recover.reap(cut_off.client, LEADER) == 0
    renew(WORKER, conf.get().LEASE + 1)
    assert recover.reap(cut_off.client, LEADER) == 1
    assert not cut_off.held() and Worker.objects.get().stopped_at is not None


@pytest.mark.parametrize(
    "change",
    [
        lambda: Worker.objects.all().delete(),
        lambda: Worker.objects.update(stopped_at=clock.now()),
        lambda: renew(WORKER, -3_600),
    ],
    ids=["has no row", "has said that it stops", "its row is from before the clock was put back"],
)
def test_it_has_no_witness_if_it(cut_off: Child, change: Callable[[], object]) -> None:
    change()
    assert recover.reap(cut_off.client, LEADER) == 1
    assert not cut_off.held()


def test_who_looks_may_have_any_clock(cut_off: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts disagree about the time by more than the lease: the row and the look at it have the database's."""
    keeper = Heartbeat(WorkerConfig(worker_id=WORKER, queues=QueueChoice(("default",), None)))
    for off in (-3_600, 3_600):
        monkeypatch.setattr(
            clock.current, "source", lambda source=clock.current.source, off=off: source() + off
        )
        keeper.write(0.0, False)
        monkeypatch.undo()
        assert recover.reap(cut_off.client, LEADER) == 0
        monkeypatch.setattr(
            clock.current, "source", lambda source=clock.current.source, off=off: source() - off
        )
        assert recover.reap(cut_off.client, LEADER) == 0
        monkeypatch.undo()


@contextmanager
def workers_unreadable() -> Iterator[None]:
    """The database does not answer questions about workers."""

    def refuse(execute: Any, sql: str, *args: Any) -> Any:
        if "queue_app_worker" in sql:
            raise OperationalError("injected: the connection was lost")
        return execute(sql, *args)

    with database.execute_wrapper(refuse):
        yield


def test_while_no_row_can_be_read_no_worker_is_buried(cut_off: Child) -> None:
    renew(WORKER, 3_600)
    with workers_unreadable(), pytest.raises(OperationalError):
        recover.reap(cut_off.client, LEADER)
    assert cut_off.held() and not Attempt.objects.exists()
    assert recover.reap(cut_off.client, LEADER) == 1


def test_all_suspects_cost_one_question_and_none_without_a_suspect(cut_off: Child) -> None:
    children = [Child(1, OTHER_WORKER), Child(1, "0190a000-0000-7000-8000-00000000000d")]
    for child in children:
        WorkerFactory(id=child.worker_id)
        renew(child.worker_id)
        silence(child)
    with CaptureQueriesContext(database) as queries:
        assert recover.reap(cut_off.client, LEADER) == 0
    assert len(queries) == 1, queries.captured_queries
    for child in (cut_off, *children):
        workers.beat(child.client, child.worker_id, ["default"])
    with CaptureQueriesContext(database) as queries:
        assert recover.reap(cut_off.client, LEADER) == 0
    assert len(queries) == 0


def test_the_living_are_told_from_the_dead_in_one_look(cut_off: Child) -> None:
    dead = Child(1, OTHER_WORKER)
    silence(dead)
    assert liveness.with_fresh_rows([WORKER, OTHER_WORKER], 15.0) == {WORKER}
    assert recover.reap(cut_off.client, LEADER) == 1
    assert [w.id for w in workers.listed(cut_off.client)] == [WORKER]


def test_no_heartbeat_is_never_poison() -> None:
    """Machines lose power, networks break: that says nothing about the job that ran there. It is in its history."""
    (job_id,) = jobs(1)
    times = conf.get().POISON_AFTER + 2
    for serial in range(times):
        child = Child(serial)
        assert [d.deaths for d in child.claim()] == [0]
        silence(child)
        assert recover.reap(child.client, LEADER) == 1
    assert states([job_id]) == ["queued"] and not DeadLetter.objects.exists()
    assert Job.objects.get().deaths == 0
    found = Attempt.objects.order_by("number").values_list("number", "state", "error")
    assert list(found) == [(n, "lost", "no heartbeat for 15 s") for n in range(1, times + 1)]


# rows that say running, of which Redis knows nothing


def lose_data(client: redis.Redis, *announcing: str) -> None:
    """Redis loses its data and is rebuilt; only these workers have reached it since."""
    connection.client().flushall()
    rebuild.at_once(client)
    for worker_id in announcing:
        epochs.announce(client, "main", epochs.read(client)["main"].name, worker_id)


def run_long(child: Child) -> None:
    """Let the only row say that this child has run its job for an hour."""
    long_ago = clock.now() - timedelta(hours=1)
    Job.objects.update(
        state=JobState.RUNNING, worker_id=child.worker_id, started_at=long_ago, last_attempted_at=long_ago
    )


def test_what_a_worker_runs_that_has_not_reached_the_new_data_is_its_own(cut_off: Child) -> None:
    """Redis failed over, and it takes the worker longer than others to find that out. Its row is fresh."""
    run_long(cut_off)
    lose_data(cut_off.client)
    assert redeliver_orphans(cut_off.client) == 0
    assert Job.objects.get().state == "running" and not Attempt.objects.exists()
    renew(WORKER, conf.get().LEASE + 1)
    assert redeliver_orphans(cut_off.client) == 1, "now both witnesses are silent"


def test_a_worker_that_has_announced_what_it_runs_has_no_more_than_that(cut_off: Child) -> None:
    run_long(cut_off)
    lose_data(cut_off.client, OTHER_WORKER)
    assert redeliver_orphans(cut_off.client) == 0
    lose_data(cut_off.client, WORKER)
    assert redeliver_orphans(cut_off.client) == 1
    (again,) = Child(2, OTHER_WORKER).claim()
    assert again.number == 2


def test_what_is_announced_while_orphans_are_looked_for_is_none(
    cut_off: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker reaches Redis between the question what Redis knows and the one who has announced."""
    run_long(cut_off)
    lose_data(cut_off.client)
    announced = epochs.announced

    def announce_first(client: redis.Redis, shard: str, name: str) -> set[str]:
        ran = [(str(job.pk), job.attempt + 1, clock.seconds()) for job in Job.objects.all()]
        recover.announce_running(client, cut_off.holder, ran)
        epochs.announce(client, shard, name, WORKER)
        return announced(client, shard, name)

    monkeypatch.setattr(epochs, "announced", announce_first)
    assert redeliver_orphans(cut_off.client) == 0
    assert cut_off.held() and not Attempt.objects.exists()


def test_data_that_are_lost_once_more_meanwhile_accuse_nobody(
    cut_off: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader stood still, and what it has heard of who announced is of other data than the last look."""
    run_long(cut_off)
    lose_data(cut_off.client, WORKER)
    announced = epochs.announced

    def lose_then(client: redis.Redis, shard: str, name: str) -> set[str]:
        heard = announced(client, shard, name)
        lose_data(client)
        return heard

    monkeypatch.setattr(epochs, "announced", lose_then)
    assert redeliver_orphans(cut_off.client) == 0
    monkeypatch.undo()
    assert redeliver_orphans(cut_off.client) == 0, "it has not announced in these data"


def test_a_job_that_lost_its_worker_and_redis_often_is_not_poison() -> None:
    (job_id,) = jobs(1)
    for serial in range(conf.get().POISON_AFTER + 1):
        child = Child(serial)
        assert [d.deaths for d in child.claim()] == [0]
        run_long(child)
        lose_data(child.client)
        assert redeliver_orphans(child.client) == 1
    assert states([job_id]) == ["queued"]
    assert (Job.objects.get().deaths, Job.objects.get().suspect) == (0, False)
    assert not DeadLetter.objects.exists()
