"""Atomic jobs, and a database that refuses writes: an outage costs no attempt, and a fault of the task's own does."""

from __future__ import annotations

import threading

import pytest
from django.db import Error, InternalError, OperationalError, ProgrammingError, connection

from bench.runtime.servers import PostgresqlServer
from bench.runtime.waiting import wait_until
from queue_app.dispatch import listing
from queue_app.domain.outcome import Outcome
from queue_app.lifecycle import settle
from queue_app.models import Attempt, DeadLetter, Job
from queue_app.worker.child import backoff
from queue_app.worker.child.runner import Runner
from queue_app.worker.config import QueueChoice, WorkerConfig
from queue_app.worker.shared_state import SharedState
from tests.app import atomic_tasks
from tests.app.models import Effect
from tests.support.draining import run_due
from tests.support.jobs import Child, states, stores_heard
from tests.support.marks import committed
from tests.support.refusals import read_only, refused

pytestmark = committed


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_PAUSE_SECONDS", 0.01)


def refusing(monkeypatch: pytest.MonkeyPatch, kind: type[Error], times: int) -> None:
    """The next writes of outcomes are refused."""
    record, answers = settle.record, iter([False] * times)

    def sometimes(outcomes: list[Outcome], worker_id: str) -> set[str]:
        if next(answers, True):
            return record(outcomes, worker_id)
        raise kind("not now")

    monkeypatch.setattr(settle, "record", sometimes)


def run_until_done(job_id: str) -> None:
    def done() -> bool:
        run_due()
        return Job.objects.get(pk=job_id).is_finished

    wait_until(done, 20)


def runner_of(child: Child, stopping: threading.Event | None = None) -> Runner:
    config = WorkerConfig(worker_id=child.worker_id, queues=QueueChoice.parse("default"))
    return Runner(config, SharedState(1, 1), 0, child.holder, (stopping or threading.Event()).is_set)


# at the end: the success cannot be written


@pytest.mark.parametrize("kind", [OperationalError, InternalError, ProgrammingError])
def test_a_success_that_cannot_be_written_in_an_outage_is_made_again(
    monkeypatch: pytest.MonkeyPatch, kind: type[Error]
) -> None:
    """It has one attempt alone, and does not lose it."""
    job_id = atomic_tasks.effect_and.enqueue("nothing").id
    refusing(monkeypatch, kind, 4)
    with stores_heard() as said:
        run_until_done(job_id)
    assert [word.split(":")[0] for word in said] == ["lost database", "returned database"]
    assert list(Effect.objects.values_list("label", flat=True)) == ["nothing"]
    lost, won = Attempt.objects.order_by("number")
    assert (lost.state, won.state) == ("lost", "succeeded")
    assert lost.error.startswith("the database refused its outcome: ") and lost.error.endswith("not now")
    assert lost.error_class == f"django.db.utils.{kind.__name__}"
    job = Job.objects.get()
    assert (job.state, job.failures, job.deaths) == ("succeeded", 0, 0)


def test_a_conflict_with_others_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a serialization failure or a deadlock: outside the transaction of the task the same is written at once."""
    job_id = atomic_tasks.effect_then.enqueue("nothing").id
    refusing(monkeypatch, OperationalError, 1)
    run_until_done(job_id)
    assert list(Attempt.objects.order_by("number").values_list("state", flat=True)) == ["failed", "succeeded"]
    assert Job.objects.get().failures == 1 and Effect.objects.count() == 1


def test_an_outage_that_has_just_ended_costs_no_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has one attempt alone. As the task may be to blame, it counts as a death."""
    job_id = atomic_tasks.effect_and.enqueue("nothing").id
    refusing(monkeypatch, ProgrammingError, 1)
    run_until_done(job_id)
    assert list(Attempt.objects.order_by("number").values_list("state", flat=True)) == ["lost", "succeeded"]
    job = Job.objects.get()
    assert (job.failures, job.deaths) == (0, 1) and Effect.objects.count() == 1


def test_a_task_that_spoils_its_transaction_each_time_ends(postgresql_process: PostgresqlServer) -> None:
    job_id = atomic_tasks.effect_and.enqueue("search_path").id
    with stores_heard() as said:
        run_until_done(job_id)
    assert [attempt.state for attempt in Attempt.objects.all()] == ["lost"] * 3
    letter = DeadLetter.objects.get()
    assert letter.reason == "poison"
    expected = "the database refused its outcome: it refuses writes: relation"
    assert letter.error.startswith(expected)
    assert not said and not Effect.objects.exists()


def test_an_error_of_the_database_in_the_task_is_its_failure() -> None:
    job_id = atomic_tasks.effect_then.enqueue("missing_table").id
    with stores_heard() as said:
        run_until_done(job_id)
    first, second = Attempt.objects.order_by("number")
    assert (first.state, second.state) == ("failed", "succeeded") and "no_such_table" in first.error
    assert not said


def test_an_attempt_that_cannot_be_recorded_at_all_leaves_no_effect() -> None:
    """An integrity error is about the values, here as everywhere: it is no outage. The job is not let go of."""
    job_id = atomic_tasks.effect_and.enqueue("nothing").id
    with refused("queue_app_attempt", job_id), stores_heard() as said:
        run_due()
    assert states([job_id]) == ["queued"] and not Effect.objects.exists()
    assert not said and not listing.unknown(Child().client, {"default": [job_id]})


# at the beginning


def test_a_job_does_not_begin_while_nothing_can_be_recorded() -> None:
    job_id = atomic_tasks.effect.enqueue().id
    child = Child()
    runner = runner_of(child)
    (delivery,) = child.claim(1)
    runner.recorder.database_failed(OperationalError("connection refused"))

    def run() -> None:
        runner.run_one(0, delivery)
        connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(0.3)
    assert thread.is_alive() and not Effect.objects.exists()
    runner.recorder.database_answered()
    thread.join(30)
    runner.recorder.flush()
    assert states([job_id]) == ["succeeded"] and Attempt.objects.count() == 1


def test_a_job_that_waits_goes_back_when_its_child_is_told_to_stop() -> None:
    job_id = atomic_tasks.effect.enqueue().id
    child, stopping = Child(), threading.Event()
    runner = runner_of(child, stopping)
    (delivery,) = child.claim(1)
    runner.recorder.database_failed(OperationalError("connection refused"))
    stopping.set()
    runner.run_one(0, delivery)
    assert not child.held() and not Effect.objects.exists()
    assert [found.id for found in Child(2).claim(9)] == [job_id]


def test_a_job_does_not_begin_in_a_session_that_is_read_only(
    monkeypatch: pytest.MonkeyPatch, postgresql_process: PostgresqlServer
) -> None:
    job_id = atomic_tasks.effect.enqueue().id
    options = connection.settings_dict["OPTIONS"] | {"options": "-c default_transaction_read_only=on"}
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)
    connection.close()
    with stores_heard(monkeypatch.undo) as said:
        run_due()
    assert said == [
        "lost database: it refuses writes: its transactions are read-only",
        "returned database",
    ]
    assert states([job_id]) == ["succeeded"]
    assert list(Attempt.objects.values_list("number", "state")) == [(1, "succeeded")]


# what other tasks find afterwards


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_session_that_was_read_only_is_not_kept(monkeypatch: pytest.MonkeyPatch, wrapped: bool) -> None:
    """Sessions are kept for ever, and the database can be written again: the next job gets a new one."""
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", None)
    jobs = [result.id for result in atomic_tasks.plain_effect.enqueue_many([((wrapped,), {})] * 2)]
    child = Child()
    runner = runner_of(child)
    first, second = child.claim(2)
    with read_only():
        runner.run_one(0, first)
        assert connection.connection is None
    runner.run_one(0, second)
    runner.recorder.flush()
    assert states(jobs) == ["failed", "succeeded"]
    assert [effect.job for effect in Effect.objects.all()] == [jobs[1]]
