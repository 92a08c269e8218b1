"""Atomic jobs, several threads: who waits for whom, and who must not."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from bench.runtime.servers import PostgresqlServer, RedisServer
from bench.runtime.waiting import wait_until
from queue_app import conf, signals
from queue_app.domain.outcome import Outcome, lost
from queue_app.lifecycle import database, settle
from queue_app.lifecycle.recovery import recover
from queue_app.models import Attempt, Job
from queue_app.worker.child.claims import ClaimSet
from queue_app.worker.child.recorder import Recorder
from queue_app.worker.child.runner import Runner
from queue_app.worker.config import QueueChoice, WorkerConfig
from queue_app.worker.shared_state import SharedState
from tests.app import atomic_tasks
from tests.app.models import Effect
from tests.support.jobs import OTHER_WORKER, WORKER, Child, jobs, states, succeeded
from tests.support.marks import committed

pytestmark = committed


@pytest.fixture
def said() -> Iterator[list[tuple[str, bool]]]:
    """(id, whether it counted) of outcomes, as the signals say."""
    found: list[tuple[str, bool]] = []

    def finished(sender: object, outcomes: list[Outcome], **more: Any) -> None:
        found.extend((outcome.delivery.id, True) for outcome in outcomes)

    def refused(sender: object, outcomes: list[Outcome], **more: Any) -> None:
        found.extend((outcome.delivery.id, False) for outcome in outcomes)

    signals.attempts_finished.connect(finished)
    signals.outcomes_refused.connect(refused)
    yield found
    signals.attempts_finished.disconnect(finished)
    signals.outcomes_refused.disconnect(refused)


def runner_of(child: Child, *, stopping: bool = False) -> Runner:
    config = WorkerConfig(worker_id=child.worker_id, queues=QueueChoice.parse("default"))
    return Runner(config, SharedState(1, 1), 0, child.holder, lambda: stopping)


def run_watched() -> None:
    """Claim one job and run it, with a recorder that ticks meanwhile, as a child does."""
    child = Child()
    runner = runner_of(child)
    runner.recorder.start()
    runner.recorder.watch()
    (delivery,) = child.claim(1)
    runner.run_one(0, delivery)
    runner.recorder.stop()


# the recorder


def test_what_is_settled_already_is_acknowledged_when_redis_is_back(
    redis_process: RedisServer, said: list[tuple[str, bool]]
) -> None:
    ids = jobs(3)
    child = Child()
    claims = ClaimSet(child.holder)
    recorder = Recorder(WORKER, child.holder, claims=claims)
    recorder.start()
    deliveries = child.claim(3)
    claims.add(deliveries)
    redis_process.pause()
    settle.record([succeeded(deliveries[0])], WORKER)
    recorder.put_settled(succeeded(deliveries[0]), counted=True)
    recorder.put_settled(succeeded(deliveries[1]), counted=False)
    wait_until(lambda: sorted(said) == [(ids[0], True), (ids[1], False)], 60)
    redis_process.resume()
    wait_until(lambda: child.held() == {ids[2]})
    recorder.put(succeeded(deliveries[2]))
    recorder.stop()
    assert states(ids) == ["succeeded", "queued", "succeeded"]
    assert Attempt.objects.count() == 2


def test_a_delivery_refused_and_the_next_one_counted_are_told_apart(said: list[tuple[str, bool]]) -> None:
    """Both at once, as after a worker was frozen."""
    (job_id,) = jobs(1)
    child = Child()
    (delivery,) = child.claim(1)
    recorder = Recorder(WORKER, child.holder)
    recorder.put_settled(succeeded(delivery), counted=True)
    recorder.put_settled(succeeded(delivery), counted=False)
    recorder.start()
    recorder.stop()
    assert sorted(said) == [(job_id, False), (job_id, True)]
    assert not child.held()


# waiting for the database


def test_a_job_whose_child_is_told_to_stop_meanwhile_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [result.id for result in atomic_tasks.effect.enqueue_many([((), {})] * 3)]
    child = Child()
    runner = runner_of(child, stopping=True)
    deliveries = child.claim(3)
    runner.prefetch.extend(deliveries)

    def away() -> str:
        raise OperationalError("connection refused")

    monkeypatch.setattr(connection, "savepoint", away)
    taken = runner.prefetch.take()
    assert taken is not None
    runner.run_one(0, taken)
    monkeypatch.undo()
    assert not child.held()
    assert [delivery.id for delivery in Child(2).claim(9)] == ids
    assert not Effect.objects.exists()
    assert not connection.in_atomic_block


# the fence


@pytest.fixture
def short_lease(settings: Any) -> float:
    settings.QUEUE_APP = settings.QUEUE_APP | {"LEASE": 1.0}
    return conf.get().LEASE


def test_a_process_frozen_in_the_middle_of_its_commit_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
    postgresql_process: PostgresqlServer,
    short_lease: float,
    said: list[tuple[str, bool]],
) -> None:
    """It has locked the job's row. The server ends its session after a lease, and the one who takes over goes on."""
    job_id = atomic_tasks.effect.enqueue().id
    child = Child()
    runner = runner_of(child)
    (delivery,) = child.claim(1)
    commit, record, counted = connection._commit, settle.record, []
    in_between: list[bool] = []

    def take_over() -> set[str]:
        try:
            outcome = lost(delivery, recover.Cause("no heartbeat", running={job_id: 1.0}))
            return record([outcome], OTHER_WORKER)
        finally:
            connection.close()

    def arm(outcomes: list[Outcome], worker_id: str) -> set[str]:
        in_between.append(connection.in_atomic_block)
        return record(outcomes, worker_id)

    def freeze() -> None:
        if in_between == [True]:
            in_between.append(False)
            with ThreadPoolExecutor(1) as pool:
                counted.append(pool.submit(take_over).result(60))
        commit()

    monkeypatch.setattr(settle, "record", arm)
    monkeypatch.setattr(connection, "_commit", freeze)
    runner.run_one(0, delivery)
    runner.recorder.flush()
    assert counted == [{job_id}]
    assert said == [(job_id, False)]
    assert not Effect.objects.exists()
    assert list(Attempt.objects.values_list("number", "state")) == [(1, "lost")]
    assert states([job_id]) == ["queued"]


def test_a_long_job_in_a_strict_isolation_level_is_not_touched_meanwhile(
    monkeypatch: pytest.MonkeyPatch, postgresql_process: PostgresqlServer
) -> None:
    """Else it could not be committed: its transaction would see that somebody has changed the row since."""
    from django.db.backends.postgresql.psycopg_any import IsolationLevel

    job_id = atomic_tasks.effect.enqueue(1.5).id
    options = connection.settings_dict["OPTIONS"] | {"isolation_level": IsolationLevel.REPEATABLE_READ}
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)
    connection.close()
    try:
        run_watched()
    finally:
        monkeypatch.undo()
        connection.close()
    assert states([job_id]) == ["succeeded"]
    assert list(Attempt.objects.values_list("number", "state")) == [(1, "succeeded")]


def test_a_long_job_says_that_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """On PostgreSQL; on SQLite its transaction keeps the one who would say so waiting, and nothing breaks."""
    job_id = atomic_tasks.effect.enqueue(1.5).id
    seen: list[str] = []
    record = settle.record

    def look(outcomes: list[Outcome], worker_id: str) -> set[str]:
        seen.append(Job.objects.get(pk=job_id).state)
        return record(outcomes, worker_id)

    monkeypatch.setattr(settle, "record", look)
    run_watched()
    assert seen == ["running" if connection.vendor == "postgresql" else "queued"]
    assert states([job_id]) == ["succeeded"]


# what any task may leave behind


def test_a_connection_closed_in_a_block_that_was_left_open_is_replaced() -> None:
    connection.close()
    connection.ensure_connection()
    transaction.atomic().__enter__()
    connection.close()  # Django waits for the end of the block with it
    database.tidy("tests.some")
    assert connection.get_autocommit() and not connection.in_atomic_block
    assert not Job.objects.exists()
