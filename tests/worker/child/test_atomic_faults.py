"""Atomic jobs whose connection breaks, whose commit is lost or refused, and whose record cannot be asked."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.db import Error, IntegrityError, InternalError, OperationalError, connection, transaction

from queue_app import signals
from queue_app.domain import ids as job_ids
from queue_app.domain.outcome import Outcome
from queue_app.domain.states import AttemptState
from queue_app.lifecycle import settle
from queue_app.models import Attempt, DeadLetter, Job
from tests.app import atomic_tasks
from tests.support.atomic import effects, held, run_until_done
from tests.support.draining import run_due
from tests.support.jobs import Child, jobs, states, stores_heard
from tests.support.marks import committed

pytestmark = committed


class Fault:
    """Makes the COMMIT that carries an effect go wrong, so many times.

    Args:
        before: whether the connection dies before the COMMIT has reached the server, or after.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, before: bool, times: int = 1) -> None:
        self._commit = connection._commit
        self._before = before
        self._left = times
        self._armed = False
        record = settle.record

        def arm(outcomes: list[Outcome], worker_id: str) -> set[str]:
            self._armed = connection.in_atomic_block
            return record(outcomes, worker_id)

        monkeypatch.setattr(settle, "record", arm)
        monkeypatch.setattr(connection, "_commit", self)

    def __call__(self) -> None:
        if not self._armed or not self._left:
            self._commit()
            return
        self._left -= 1
        self._armed = False
        if not self._before:
            self._commit()
        connection.connection.close()
        raise OperationalError("server closed the connection unexpectedly")


def test_a_commit_whose_answer_is_lost_has_happened_once(
    monkeypatch: pytest.MonkeyPatch, finished: list[tuple[str, str]], hooked: list[Any], refused: list[str]
) -> None:
    job_id = atomic_tasks.enqueue_inside.enqueue().id
    Fault(monkeypatch, before=False)
    run_due()
    assert states([job_id]) == ["succeeded"]
    assert Attempt.objects.filter(job_id=job_id).count() == 1
    assert [state for one, state in finished if one == job_id] == ["succeeded"]
    assert not refused
    assert hooked == [("first", False), ("last", job_id)]
    assert list(Job.objects.exclude(pk=job_id).values_list("state", flat=True)) == ["succeeded"]
    assert held() == 0


def test_a_commit_that_was_lost_itself_is_made_up_for(
    monkeypatch: pytest.MonkeyPatch, finished: list[tuple[str, str]], hooked: list[Any]
) -> None:
    job_id = atomic_tasks.enqueue_inside.enqueue().id
    Fault(monkeypatch, before=True)
    run_due()
    assert states([job_id]) == ["succeeded"]
    assert [state for one, state in finished if one == job_id] == ["lost", "succeeded"]
    assert hooked == [("first", False), ("last", job_id)], "those of the attempt that counts"
    assert Job.objects.count() == 2
    lost = Attempt.objects.get(job_id=job_id, number=1)
    assert (
        lost.error == "the connection was lost before its commit: server closed the connection unexpectedly"
    )
    assert lost.error_class == "django.db.utils.OperationalError"
    job = Job.objects.get(pk=job_id)
    assert (job.failures, job.deaths) == (0, 1)


def test_a_job_that_always_loses_its_connection_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = atomic_tasks.effect.enqueue().id
    Fault(monkeypatch, before=True, times=10)
    run_due()
    assert states([job_id]) == ["failed"]
    assert effects(job_id) == []
    letter = DeadLetter.objects.get()
    assert letter.reason == "poison"
    assert "the connection was lost before its commit" in letter.error


@pytest.mark.parametrize("kind", [OperationalError, InternalError])
@pytest.mark.parametrize("before", [True, False])
def test_the_record_is_asked_until_it_answers(
    before: bool, kind: type[Error], monkeypatch: pytest.MonkeyPatch, finished: list[tuple[str, str]]
) -> None:
    """The database is away for a while after the COMMIT; nothing is claimed meanwhile."""
    job_id = atomic_tasks.effect.enqueue().id
    Fault(monkeypatch, before=before)
    record, answers = settle.record, iter([True, False, False, False])

    def away(outcomes: list[Outcome], worker_id: str) -> set[str]:
        if next(answers, True):
            return record(outcomes, worker_id)
        raise kind("not now")

    monkeypatch.setattr(settle, "record", away)
    with stores_heard() as said:
        run_due()
    refuses = "it refuses writes: " if kind is InternalError else ""
    assert said == [f"lost database: {refuses}not now", "returned database"]
    assert states([job_id]) == ["succeeded"]
    assert effects(job_id) == ["first", "second"]
    assert [state for _, state in finished] == (["lost"] if before else []) + ["succeeded"]


def test_an_answer_lost_while_asking_is_no_other_answer(
    monkeypatch: pytest.MonkeyPatch, finished: list[tuple[str, str]]
) -> None:
    """Both the COMMIT and the answer to the question are lost."""
    job_id = atomic_tasks.effect.enqueue().id
    Fault(monkeypatch, before=True)
    record, calls = settle.record, []

    def forgetful(outcomes: list[Outcome], worker_id: str) -> set[str]:
        accepted = record(outcomes, worker_id)
        calls.append(str(outcomes[0].state))
        if len(calls) == 2:
            raise OperationalError("server closed the connection unexpectedly")
        return accepted

    monkeypatch.setattr(settle, "record", forgetful)
    run_due()
    assert calls == ["succeeded", "lost", "lost", "succeeded"]
    assert states([job_id]) == ["succeeded"]
    assert effects(job_id) == ["first", "second"]
    assert [state for _, state in finished] == ["lost", "succeeded"]


def test_an_outcome_of_another_child_is_not_taken_for_ones_own(
    monkeypatch: pytest.MonkeyPatch, refused: list[str], hooked: list[Any]
) -> None:
    """The COMMIT was lost, and meanwhile the same delivery has succeeded elsewhere (Redis had lost its data)."""
    job_id = atomic_tasks.enqueue_inside.enqueue().id
    Fault(monkeypatch, before=True)
    record, calls = settle.record, []

    def overtaken(outcomes: list[Outcome], worker_id: str) -> set[str]:
        calls.append(1)
        if len(calls) == 2:
            delivery = outcomes[0].delivery
            other = Outcome(delivery, AttemptState.SUCCEEDED, 1.0, 2.0)
            record([other], worker_id)
        return record(outcomes, worker_id)

    monkeypatch.setattr(settle, "record", overtaken)
    run_due()
    assert refused == [job_id]
    assert hooked == []
    assert states([job_id]) == ["succeeded"]
    assert Job.objects.count() == 1
    assert held() == 0


def refuse_one_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next COMMIT that carries an outcome is refused."""
    commit, record, armed = connection._commit, settle.record, []

    def arm(outcomes: list[Outcome], worker_id: str) -> set[str]:
        armed.append(connection.in_atomic_block)
        return record(outcomes, worker_id)

    def refuse() -> None:
        if armed == [True]:
            armed.append(False)
            raise IntegrityError("deferred constraint")
        commit()

    monkeypatch.setattr(settle, "record", arm)
    monkeypatch.setattr(connection, "_commit", refuse)


def test_jobs_of_a_refused_commit_are_never_pushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something keeps the exception, and with it all that was alive when it was raised."""
    atomic_tasks.enqueue_inside.using(max_attempts=1).enqueue()
    refuse_one_commit(monkeypatch)
    kept: list[Outcome] = []

    def keep(sender: object, outcomes: list[Outcome], **more: Any) -> None:
        kept.extend(outcomes)

    signals.attempts_finished.connect(keep)
    try:
        run_due()
    finally:
        signals.attempts_finished.disconnect(keep)
    assert isinstance(kept[0].exception, IntegrityError)
    with transaction.atomic():
        (after,) = jobs(1)
    assert [delivery.id for delivery in Child().claim(9)] == [after]


def test_a_refusal_at_the_commit_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a deferred constraint: the server answers, and the connection lives."""
    job_id = atomic_tasks.effect_then.enqueue("nothing").id
    refuse_one_commit(monkeypatch)
    run_until_done(job_id)
    assert states([job_id]) == ["succeeded"]
    first = Attempt.objects.get(number=1)
    assert (first.state, first.error) == ("failed", "deferred constraint")
    assert effects(job_id) == ["nothing"]


def test_a_connection_that_broke_while_idle_is_replaced_before_the_task_runs(
    finished: list[tuple[str, str]],
) -> None:
    first = atomic_tasks.effect.enqueue().id
    run_due()
    second = atomic_tasks.effect.enqueue().id
    connection.ensure_connection()
    connection.connection.close()
    connection.errors_occurred = False
    from queue_app.dispatch import workers
    from queue_app.worker.child.runner import Runner
    from queue_app.worker.config import QueueChoice, WorkerConfig
    from queue_app.worker.shared_state import SharedState

    child = Child()
    config = WorkerConfig(worker_id=job_ids.new_text(), queues=QueueChoice.parse("default"))
    runner = Runner(config, SharedState(1, 1), 0, workers.holder(child.worker_id, 1))
    (delivery,) = child.claim(1)
    runner.run_one(0, delivery)
    runner.recorder.flush()
    assert finished == [(first, "succeeded"), (second, "succeeded")]


def test_the_task_waits_for_a_database_that_is_away(
    monkeypatch: pytest.MonkeyPatch, finished: list[tuple[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    job_id = atomic_tasks.effect.enqueue().id
    savepoint, answers = connection.savepoint, iter([False, False, False])

    def sometimes() -> str:
        if next(answers, True):
            return savepoint()
        raise OperationalError("database is locked")

    monkeypatch.setattr(connection, "savepoint", sometimes)
    run_due()
    assert finished == [(job_id, "succeeded")]
    assert effects(job_id) == ["first", "second"]
    assert "Lost the database: database is locked" in caplog.text
    assert "The database is back" in caplog.text
