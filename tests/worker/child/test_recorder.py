"""The recorder of a child: outcomes reach the record whatever the stores do, and one bad outcome costs no other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import OperationalError

from bench.runtime.servers import PostgresqlServer, RedisServer
from bench.runtime.waiting import wait_until
from queue_app import signals
from queue_app.domain.delivery import Delivery
from queue_app.domain.outcome import Outcome
from queue_app.lifecycle import settle
from queue_app.lifecycle.recovery import rebuild
from queue_app.models import Attempt, DeadLetter, Job
from queue_app.worker.child.claims import ClaimSet
from queue_app.worker.child.recorder import Recorder
from tests.support.jobs import WORKER, Child, drain, jobs, states, stores_heard, succeeded
from tests.support.marks import committed

pytestmark = committed


@pytest.fixture
def child() -> Child:
    return Child()


@pytest.fixture
def recorder(child: Child) -> Iterator[Recorder]:
    made = Recorder(WORKER, child.holder)
    made.start()
    yield made
    made.stop()


def impossible(delivery: Delivery) -> Outcome:
    """An outcome that the database refuses: a success that never started."""
    outcome = succeeded(delivery)
    outcome.started_at = None
    return outcome


def test_outcomes_are_recorded_and_then_acknowledged(child: Child, recorder: Recorder) -> None:
    ids = jobs(30)
    for delivery in child.claim(30):
        recorder.put(succeeded(delivery))
    wait_until(lambda: not child.held())
    assert set(states(ids)) == {"succeeded"}


def test_stopping_records_what_has_gathered(child: Child) -> None:
    ids = jobs(5)
    recorder = Recorder(WORKER, child.holder)
    for delivery in child.claim(5):
        recorder.put(succeeded(delivery))
    recorder.start()
    recorder.stop()
    assert set(states(ids)) == {"succeeded"}
    assert not child.held()


def test_what_the_database_refuses_fails_alone(child: Child) -> None:
    ids = jobs(9)
    recorder = Recorder(WORKER, child.holder)
    for delivery in child.claim(9):
        recorder.put((impossible if delivery.id == ids[4] else succeeded)(delivery))
    recorder.start()
    recorder.stop()
    assert states(ids) == ["succeeded"] * 4 + ["failed"] + ["succeeded"] * 4
    letter = DeadLetter.objects.get()
    assert (str(letter.job_id), letter.reason) == (ids[4], "not_retryable")
    assert letter.error.startswith("The outcome could not be recorded: ")
    assert Attempt.objects.count() == 9
    assert not child.held()


def test_an_outcome_of_a_row_that_moved_on_stops_nothing(child: Child, recorder: Recorder) -> None:
    ids = jobs(3)
    deliveries = child.claim(3)
    Job.objects.filter(pk=ids[1]).update(attempt=1)
    Job.objects.filter(pk=ids[2]).delete()
    refused: list[str] = []

    def hear(sender: object, outcomes: list[Outcome], **more: Any) -> None:
        refused.extend(outcome.delivery.id for outcome in outcomes)

    signals.outcomes_refused.connect(hear)
    try:
        for delivery in deliveries:
            recorder.put(succeeded(delivery))
        wait_until(lambda: not child.held())
        recorder.stop()
    finally:
        signals.outcomes_refused.disconnect(hear)
    assert states(ids[:2]) == ["succeeded", "queued"]
    assert refused == ids[1:]


def test_a_database_that_is_away_is_waited_for(
    child: Child, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = jobs(2)
    record, answers = settle.record, iter([False, False, False])

    def sometimes(outcomes: list[Outcome], worker_id: str) -> set[str]:
        if next(answers, True):
            return record(outcomes, worker_id)
        raise OperationalError("server closed the connection unexpectedly")

    def nothing_is_claimed() -> None:
        assert not recorder.can_record.is_set(), "nothing may be claimed now"
        assert child.held() == set(ids), "and nothing is let go of before it is committed"

    monkeypatch.setattr(settle, "record", sometimes)
    with stores_heard(nothing_is_claimed) as said:
        for delivery in child.claim(2):
            recorder.put(succeeded(delivery))
        wait_until(lambda: not child.held())
    assert set(states(ids)) == {"succeeded"}
    assert said == ["lost database: server closed the connection unexpectedly", "returned database"]
    assert recorder.can_record.is_set()


def test_a_connection_that_the_server_has_ended_is_replaced(
    child: Child, recorder: Recorder, postgresql_process: PostgresqlServer
) -> None:
    ids = jobs(2)
    first, second = child.claim(2)
    recorder.put(succeeded(first))
    wait_until(lambda: len(child.held()) == 1)
    with postgresql_process.connect(autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    recorder.put(succeeded(second))
    wait_until(lambda: not child.held())
    from django.db import connection

    connection.close()  # ours was ended as well
    assert states(ids) == ["succeeded"] * 2


def test_outcomes_are_recorded_without_redis_and_acknowledged_when_it_is_back(
    child: Child, redis_process: RedisServer
) -> None:
    ids = jobs(3)
    deliveries = child.claim(3)
    claims = ClaimSet(child.holder)
    claims.add(deliveries)
    recorder = Recorder(WORKER, child.holder, claims=claims)
    recorder.start()
    redis_process.pause()
    for delivery in deliveries[:2]:
        recorder.put(succeeded(delivery))
    wait_until(lambda: states(ids) == ["succeeded", "succeeded", "queued"])
    redis_process.resume()
    wait_until(lambda: child.held() == {ids[2]}, 30)
    recorder.stop()


def test_a_redis_that_returns_empty_does_not_bring_back_what_is_recorded(
    child: Child, recorder: Recorder, redis_process: RedisServer
) -> None:
    ids = jobs(3)
    deliveries = child.claim(2)
    redis_process.kill()
    for delivery in deliveries:
        recorder.put(succeeded(delivery))
    wait_until(lambda: states(ids) == ["succeeded", "succeeded", "queued"])
    redis_process.start()
    rebuild.at_once(child.client)
    recorder.stop()
    assert drain() == [ids[2]]
