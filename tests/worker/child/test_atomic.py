"""P5: what an atomic task writes and that its job has succeeded are committed together, or not at all."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from bench.runtime.servers import PostgresqlServer
from queue_app.domain.outcome import Outcome
from queue_app.lifecycle import settle
from queue_app.models import Attempt, DeadLetter, Job
from tests.app import atomic_tasks
from tests.app.models import Effect
from tests.support.atomic import effects, held, note, run_until_done
from tests.support.draining import run_due
from tests.support.jobs import Child, states
from tests.support.marks import committed

pytestmark = committed


# the plain way


def test_writes_and_success_are_there_together(finished: list[tuple[str, str]], hooked: list[Any]) -> None:
    job_id = atomic_tasks.effect.enqueue().id
    worker_id = run_due()
    job = Job.objects.get(pk=job_id)
    assert (job.state, job.return_value, job.progress) == ("succeeded", "left", '[2,2,"both"]')
    assert effects(job_id) == ["first", "second"]
    attempt = Attempt.objects.get()
    assert (attempt.number, attempt.state, str(attempt.worker_id)) == (1, "succeeded", worker_id)
    assert finished == [(job_id, "succeeded")]
    assert held() == 0
    assert not connection.in_atomic_block and connection.get_autocommit()


def test_writes_and_success_are_in_one_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the first effect and the recorded success there is no COMMIT."""
    said: list[str] = []
    monkeypatch.setattr(connection, "_commit", note(said, "COMMIT", connection._commit))
    monkeypatch.setattr(settle, "record", note(said, "record", settle.record))
    monkeypatch.setattr(Effect.objects, "create", note(said, "effect", Effect.objects.create), raising=False)
    atomic_tasks.effect.enqueue()
    said.clear()
    run_due()
    first = said.index("effect")
    assert said[first : first + 4] == ["effect", "effect", "record", "COMMIT"]
    assert "record" not in said[first + 4 :], "it is recorded once"


def test_many_in_a_row_use_one_connection() -> None:
    job_ids = [result.id for result in atomic_tasks.effect.enqueue_many([((), {})] * 20)]
    run_due()
    assert set(states(job_ids)) == {"succeeded"}
    assert Effect.objects.count() == 40


# failures of the task


@pytest.mark.parametrize("verb", ["raise", "snooze", "object", "large"])
def test_what_fails_is_rolled_back_and_tried_again(verb: str) -> None:
    job_id = atomic_tasks.effect_then.enqueue(verb).id
    run_until_done(job_id)
    assert states([job_id]) == ["succeeded"]
    assert effects(job_id) == [verb]
    first = Attempt.objects.get(number=1)
    assert first.state == ("snoozed" if verb == "snooze" else "failed")
    assert Attempt.objects.get(number=2).state == "succeeded"


@pytest.mark.parametrize(
    "verb,said",
    [
        ("raise", "on purpose"),
        ("object", "the return value is of type builtins.object"),
        ("large", "RESULT_LIMIT is"),
        ("swallow", "can only be rolled back"),
        ("set_rollback", "can only be rolled back"),
        ("close", "closed the database connection"),
        ("autocommit", "when an 'atomic' block is active"),
        ("rollback", "ended its transaction"),
        ("leave_open", "left an atomic block"),
        ("leave_open_and_close", "closed the database connection"),
    ],
)
def test_what_an_atomic_task_must_not_do_fails_and_leaves_nothing(
    verb: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = atomic_tasks.effect_and.enqueue(verb).id
    after = atomic_tasks.effect.enqueue().id
    run_due()
    assert states([job_id, after]) == ["failed", "succeeded"]
    assert effects(job_id) == []
    assert effects(after) == ["first", "second"]
    assert said in DeadLetter.objects.get().error
    assert "left a transaction open on" not in caplog.text, "it is said once"
    assert held() == 0


@pytest.mark.parametrize("verb", ["commit", "commit_and_go_on"])
def test_a_task_that_commits_by_itself_has_not_succeeded(verb: str) -> None:
    job_id = atomic_tasks.effect_and.enqueue(verb).id
    run_due()
    assert states([job_id]) == ["failed"]
    assert "ended its transaction" in DeadLetter.objects.get().error
    assert not Effect.objects.filter(job="after").exists()


def test_an_error_swallowed_in_the_task_is_named(postgresql_process: PostgresqlServer) -> None:
    job_id = atomic_tasks.effect_and.enqueue("abort").id
    run_due()
    assert states([job_id]) == ["failed"]
    assert effects(job_id) == []
    assert "a database error was swallowed" in DeadLetter.objects.get().error


def test_a_session_that_the_server_ends_during_the_task_is_made_up_for(
    postgresql_process: PostgresqlServer,
) -> None:
    job_id = atomic_tasks.effect_then.enqueue("idle").id
    run_until_done(job_id)
    assert states([job_id]) == ["succeeded"]
    assert effects(job_id) == ["idle"]
    first = Attempt.objects.get(number=1)
    assert first.state == "lost"
    assert first.error.startswith("the connection was lost before its commit: ")


def test_a_soft_timeout_rolls_back() -> None:
    job_id = atomic_tasks.effect_too_long.enqueue(False).id
    run_due()
    assert states([job_id]) == ["failed"]
    assert Attempt.objects.get().state == "timed_out"
    assert effects(job_id) == []


def test_a_soft_timeout_that_the_task_handles_is_a_success() -> None:
    job_id = atomic_tasks.effect_too_long.enqueue(True).id
    run_due()
    assert states([job_id]) == ["succeeded"]
    assert effects(job_id) == [""]


# hooks, and jobs enqueued inside


def test_hooks_run_once_after_the_commit(hooked: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    job_id = atomic_tasks.enqueue_inside.enqueue().id
    run_due()
    assert states([job_id]) == ["succeeded"]
    assert hooked == [("first", False), ("last", job_id)]
    assert "An on_commit hook of tests.app.atomic_tasks.enqueue_inside failed" in caplog.text
    (kept,) = Job.objects.get(pk=job_id).return_value
    assert list(Job.objects.exclude(pk=job_id).values_list("state", flat=True)) == ["succeeded"]
    assert states([kept]) == ["succeeded"]


def test_a_failing_hook_of_a_sensitive_task_logs_no_value(caplog: pytest.LogCaptureFixture) -> None:
    atomic_tasks.pay_and_tell.enqueue("4111222233334444")
    run_due()
    assert "An on_commit hook of tests.app.atomic_tasks.pay_and_tell failed" in caplog.text
    assert "no mail about •••" in caplog.text and "4111222233334444" not in caplog.text


def test_hooks_and_jobs_of_a_failed_attempt_are_gone(hooked: list[Any]) -> None:
    job_id = atomic_tasks.enqueue_inside.using(max_attempts=1).enqueue(fail=True).id
    run_due()
    assert states([job_id]) == ["failed"]
    assert hooked == []
    assert Job.objects.count() == 1
    assert not any(Child().client.scan_iter("*:ready:*")), "nothing of it was pushed"


# the fence


def fence_off(job_id: str) -> None:
    """As if its worker had been given up for dead, and another one had ended the attempt."""
    Job.objects.filter(pk=job_id).update(attempt=1)


def test_a_delivery_that_is_no_longer_expected_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, refused: list[str], hooked: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    job_id = atomic_tasks.enqueue_inside.enqueue().id
    record = settle.record

    def late(outcomes: list[Outcome], worker_id: str) -> set[str]:
        fence_off(
            job_id
        )  # in its own transaction here, as SQLite has one writer; it is rolled back with the rest
        return record(outcomes, worker_id)

    monkeypatch.setattr(settle, "record", late)
    run_due()
    assert refused == [job_id]
    assert "does not count: the record expects another delivery" in caplog.text
    assert hooked == []
    assert Job.objects.count() == 1 and not Attempt.objects.exists()
    assert held() == 0


def test_a_cancelled_job_leaves_nothing(monkeypatch: pytest.MonkeyPatch, refused: list[str]) -> None:
    job_id = atomic_tasks.effect.enqueue().id
    record = settle.record

    def late(outcomes: list[Outcome], worker_id: str) -> set[str]:
        Job.objects.filter(pk=job_id).delete()
        return record(outcomes, worker_id)

    monkeypatch.setattr(settle, "record", late)
    run_due()
    assert refused == [job_id]
    assert effects(job_id) == []
