"""A database that answers and refuses writes: nothing is let go of that is not recorded, no success thrown away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from django.db import (
    DatabaseError,
    Error,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    connection,
)

from bench.runtime.servers import PostgresqlServer
from bench.runtime.waiting import wait_until
from queue_app import clock
from queue_app.dispatch import keys, listing
from queue_app.domain.outcome import Outcome
from queue_app.domain.states import DeadReason
from queue_app.lifecycle import settle
from queue_app.lifecycle.recovery import orphans, recover
from queue_app.lifecycle.store_health import check_writes
from queue_app.models import Attempt, DeadLetter, Job
from queue_app.worker.child import backoff
from queue_app.worker.child.claims import ClaimSet
from queue_app.worker.child.recorder import Recorder
from tests.support.jobs import WORKER, Child, failed, jobs, states, stores_heard, succeeded
from tests.support.marks import committed
from tests.support.refusals import read_only, refused

pytestmark = committed


class Recording:
    """A child that has claimed jobs, and its recorder."""

    def __init__(self) -> None:
        self.child = Child()
        self.claims = ClaimSet(self.child.holder)
        self.recorder = Recorder(WORKER, self.child.holder, claims=self.claims)
        self.recorder.start()

    def claim(self, count: int) -> list[Any]:
        found = self.child.claim(count)
        self.claims.add(found)
        return found

    def put(self, *outcomes: Outcome) -> None:
        for outcome in outcomes:
            self.recorder.put(outcome)


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recording]:
    monkeypatch.setattr(backoff, "FIRST_PAUSE_SECONDS", 0.01)
    made = Recording()
    yield made
    made.recorder.stop()


ERRORS = [OperationalError, InterfaceError, InternalError, ProgrammingError, NotSupportedError, DatabaseError]


@pytest.mark.parametrize("kind", ERRORS)
def test_outcomes_wait_for_every_error_that_is_about_the_database(
    recording: Recording, kind: type[Error], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = jobs(2)
    record, answers = settle.record, iter([False, False, False])

    def sometimes(outcomes: list[Outcome], worker_id: str) -> set[str]:
        if next(answers, True):
            return record(outcomes, worker_id)
        raise kind("not now")

    def nothing_is_claimed_or_let_go_of() -> None:
        assert not recording.recorder.can_record.is_set()
        assert recording.child.held() == set(ids)

    monkeypatch.setattr(settle, "record", sometimes)
    with stores_heard(nothing_is_claimed_or_let_go_of) as said:
        recording.put(*map(succeeded, recording.claim(2)))
        wait_until(lambda: not recording.child.held())
    assert states(ids) == ["succeeded"] * 2
    refuses = "" if kind in ERRORS[:2] else "it refuses writes: "
    assert said == [f"lost database: {refuses}not now", "returned database"], "said once"
    assert recording.recorder.can_record.is_set()


def test_a_missing_grant_is_waited_for(
    recording: Recording, postgresql_process: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = jobs(2)
    deliveries = recording.claim(2)
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE ROLE limited LOGIN; GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA public TO limited"
        )
    monkeypatch.setitem(connection.settings_dict, "USER", "limited")  # of new sessions
    try:
        with stores_heard() as said:
            recording.put(*map(succeeded, deliveries))
            wait_until(lambda: said)
            assert recording.child.held() == set(ids)
            with connection.cursor() as cursor:
                cursor.execute("GRANT INSERT ON ALL TABLES IN SCHEMA public TO limited")
            wait_until(lambda: not recording.child.held())
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP OWNED BY limited; DROP ROLE limited")
    assert states(ids) == ["succeeded"] * 2
    assert said == [
        "lost database: it refuses writes: permission denied for table queue_app_attempt",
        "returned database",
    ]


# a value is refused


def test_a_value_that_no_text_can_hold_fails_its_job_alone(
    recording: Recording, postgresql_process: PostgresqlServer
) -> None:
    ids = jobs(3)
    outcomes = [succeeded(delivery) for delivery in recording.claim(3)]
    outcomes[1].result = '"\x00"'
    recording.put(*outcomes)
    wait_until(lambda: not recording.child.held())
    assert states(ids) == ["succeeded", "failed", "succeeded"]
    assert DeadLetter.objects.get().error.startswith("The outcome could not be recorded: ")


def test_where_every_outcome_is_refused_successes_are_kept(recording: Recording) -> None:
    """As by a new column that must not be null, where the tables are newer than the code."""
    ids = jobs(3)
    with stores_heard() as said:
        with refused("queue_app_attempt"):
            recording.put(*map(succeeded, recording.claim(3)))
            wait_until(lambda: said)
            assert not recording.recorder.can_record.is_set(), "nothing is claimed meanwhile"
            assert recording.child.held() == set(ids)
        wait_until(lambda: not recording.child.held(), 20)
    assert states(ids) == ["succeeded"] * 3
    assert said[0].startswith("lost database: it refuses every outcome: ") and "refused on purpose" in said[0]
    assert said[1:] == ["returned database"]
    assert not Job.objects.exclude(pk__in=ids).exists(), "what it was asked with is not there"


def test_an_attempt_that_is_there_already_does_not_cost_the_success(recording: Recording) -> None:
    """The job was put back by hand, and its history was left."""
    ids = jobs(2)
    old = Attempt.objects.create(job_id=UUID(ids[0]), number=1, state="failed", finished_at=clock.now())
    recording.put(*map(succeeded, recording.claim(2)))
    wait_until(lambda: not recording.child.held())
    assert states(ids) == ["succeeded"] * 2
    assert Attempt.objects.get(job_id=ids[0]).state == old.state
    assert Attempt.objects.count() == 2


def test_a_dead_letter_that_is_open_already_does_not_keep_the_job_from_failing(recording: Recording) -> None:
    (job_id,) = jobs(1)
    DeadLetter.objects.create(
        job_id=UUID(job_id), task="old", queue="default", reason="exhausted", attempts=1
    )
    (delivery,) = recording.claim(1)
    recording.put(failed(delivery, dead_reason=DeadReason.EXHAUSTED))
    wait_until(lambda: not recording.child.held())
    assert states([job_id]) == ["failed"]
    assert DeadLetter.objects.get().task == "old"


def test_what_cannot_be_recorded_at_all_is_not_let_go_of(recording: Recording) -> None:
    """The row of one job cannot be written. It costs no other, and its child goes on."""
    ids = jobs(5)
    with refused("queue_app_job", ids[1], event="UPDATE", column="id"):
        recording.put(*map(succeeded, recording.claim(4)))
        wait_until(lambda: recording.child.held() == {ids[1]})
        recording.put(*map(succeeded, recording.claim(1)))
        wait_until(lambda: recording.child.held() == {ids[1]})
        recording.recorder.stop()
        assert recording.recorder.can_record.is_set()
    assert states(ids) == ["succeeded", "queued", *["succeeded"] * 3]
    assert not listing.unknown(recording.child.client, {"default": [ids[1]]})
    # Its child has ended: the attempt was not recorded, so it is made again.
    recover.take_back(recording.child.client, recording.child.holder, ["default"], WORKER, recover.Cause(""))
    other = Child(2)
    other.end(*other.claim())
    assert states(ids) == ["succeeded"] * 5


# recovery


def test_a_loss_that_cannot_be_recorded_costs_no_other(recording: Recording) -> None:
    ids = jobs(4)
    child = recording.child
    started = {delivery.id: clock.seconds() for delivery in child.claim(3)}
    with refused("queue_app_attempt", ids[1]):
        found = recover.take_back(
            child.client, child.holder, ["default"], WORKER, recover.Cause("died", started)
        )
    assert found == (2, 0)
    assert child.held() == {ids[1]}, "it is not let go of"
    assert child.holder in listing.holders(child.client, ["default"])["default"], "and is found again"
    assert sorted(Attempt.objects.values_list("state", flat=True)) == ["lost", "lost"]
    found = recover.take_back(child.client, child.holder, ["default"], WORKER, recover.Cause("died", started))
    assert found == (1, 0) and not child.held()


def test_nothing_is_taken_back_while_every_loss_is_refused(recording: Recording) -> None:
    ids = jobs(2)
    child = recording.child
    started = {delivery.id: clock.seconds() for delivery in child.claim(2)}
    cause = recover.Cause("died", started)
    with refused("queue_app_attempt"), pytest.raises(OperationalError, match="refuses every outcome"):
        recover.take_back(child.client, child.holder, ["default"], WORKER, cause)
    assert child.held() == set(ids)
    assert recover.take_back(child.client, child.holder, ["default"], WORKER, cause) == (2, 0)


def test_an_orphan_that_cannot_be_recorded_costs_no_other(recording: Recording) -> None:
    ids = jobs(3)
    child = recording.child
    child.claim(3)
    old = "2020-01-01T00:00:00Z"
    Job.objects.update(state="running", started_at=old, last_attempted_at=old, worker_id=WORKER)
    child.client.delete(keys.held("default", child.holder))
    with refused("queue_app_attempt", ids[1]):
        assert orphans.recover_orphaned(child.client) == 2
    assert states(ids) == ["queued", "running", "queued"]


def test_the_database_is_asked_without_a_trace() -> None:
    check_writes()
    assert not (Job.objects.exists() or Attempt.objects.exists() or DeadLetter.objects.exists())
    with read_only(), pytest.raises(Error):
        check_writes()
