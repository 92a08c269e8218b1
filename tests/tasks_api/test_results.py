"""The contract of Django's Tasks API: what becomes of a job, as its results and signals tell it."""

from __future__ import annotations

import dataclasses
import random
from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction
from django.utils import timezone

from bench.runtime.waiting import wait_until
from queue_app import JobContext
from queue_app.domain.states import JobState
from queue_app.exceptions import UnknownTask
from queue_app.lifecycle import operate
from queue_app.models import Job, Queue
from queue_app.tasks_api.compat import ROOT as API
from queue_app.tasks_api.compat import (
    InvalidTask,
    TaskContext,
    TaskResult,
    task_backends,
)
from tests.app import dtasks
from tests.support.draining import run_due
from tests.support.task_results import FAILED, READY, RUNNING, SUCCESSFUL, run_attempt

pytestmark = pytest.mark.django_db(transaction=True)


# ends


def test_success() -> None:
    result = dtasks.echo.enqueue(1, word="x")
    worker = run_due()
    assert result.status == READY  # a result is what was read; refresh reads again
    result.refresh()
    assert result.status == SUCCESSFUL and result.is_finished
    assert result.return_value == [[1], {"word": "x"}]
    assert result.enqueued_at <= result.started_at == result.last_attempted_at <= result.finished_at
    assert (result.worker_ids, result.attempts, result.errors) == ([worker], 1, [])
    assert dtasks.echo.get_result(result.id) == result
    async_to_sync(result.arefresh)()
    assert result.return_value == [[1], {"word": "x"}]


def test_failure_is_final_after_one_attempt() -> None:
    result = dtasks.fail.enqueue("no paper")
    worker = run_due()
    assert run_due() != worker  # nothing is left to do
    result.refresh()
    assert result.status == FAILED and result.is_finished
    with pytest.raises(ValueError, match="Task failed"):
        _ = result.return_value
    (error,) = result.errors
    assert error.exception_class_path == "tests.app.dtasks.Trouble"
    assert error.exception_class is dtasks.Trouble
    assert error.traceback.startswith("Traceback") and error.traceback.endswith("Trouble: no paper\n")
    assert (result.worker_ids, result.attempts) == ([worker], 1)
    assert result.finished_at is not None


def test_a_coroutine_function() -> None:
    result = dtasks.add.enqueue(1, b=2)
    run_due()
    result.refresh()
    assert result.return_value == 3


@pytest.mark.parametrize("kind,path", [("object", "builtins.TypeError"), ("nul", "builtins.TypeError")])
def test_a_return_value_that_is_not_json_fails_the_task(kind: str, path: str) -> None:
    result = dtasks.give.enqueue(kind)
    run_due()
    result.refresh()
    assert result.status == FAILED
    assert [error.exception_class_path for error in result.errors] == [path]


@pytest.mark.parametrize("kind,value", [("tuple", [1, [2]]), ("bytes", "x"), ("none", None)])
def test_a_return_value_is_normalised(kind: str, value: Any) -> None:
    result = dtasks.give.enqueue(kind)
    run_due()
    result.refresh()
    assert result.return_value == value


def test_a_task_that_exits_fails_and_the_next_one_runs() -> None:
    first, second = dtasks.give.enqueue("exit"), dtasks.noop.enqueue()
    run_due()
    first.refresh()
    second.refresh()
    assert (first.status, second.status) == (FAILED, SUCCESSFUL)
    assert first.errors[0].exception_class is SystemExit


def test_a_transaction_left_open_does_not_swallow_what_follows() -> None:
    first, second = dtasks.leave_transaction_open.enqueue(), dtasks.noop.enqueue()
    run_due()
    assert not transaction.get_connection().in_atomic_block
    second.refresh()
    assert second.status == SUCCESSFUL
    first.refresh()
    assert first.is_finished


def test_a_cancelled_job_is_failed_with_an_error_that_says_why() -> None:
    result = dtasks.noop.using(run_after=timezone.now() + timedelta(hours=1)).enqueue()
    assert operate.cancel([result.id]).done == [result.id]
    result.refresh()
    assert result.status == FAILED and result.attempts == 0
    assert [error.traceback for error in result.errors] == ["The job was cancelled."]
    assert issubclass(result.errors[0].exception_class, Exception)
    run_due()
    result.refresh()
    assert result.attempts == 0


# while it runs


def test_a_task_sees_itself_running_and_so_does_everybody() -> None:
    result = dtasks.inspect.enqueue()
    worker = run_due()
    ((attempt, *views),) = dtasks.seen
    assert attempt == 1
    for job_id, task, status, worker_ids, errors, started_at, last_attempted_at, finished_at in views:
        assert (job_id, task, status) == (result.id, dtasks.inspect, RUNNING)
        assert (worker_ids, errors, finished_at) == ([worker], 0, None)
        assert started_at is not None and started_at == last_attempted_at >= result.enqueued_at


def test_a_coroutine_function_with_a_context() -> None:
    result = dtasks.inspect_async.enqueue()
    run_due()
    assert [own.id for own in dtasks.seen] == [result.id]
    result.refresh()
    assert result.return_value == 1


@pytest.mark.parametrize("task", [dtasks.keep_context, dtasks.keep_context_async])
@pytest.mark.usefixtures("at_once")
def test_the_context_is_an_instance_of_the_standards(task: Any) -> None:
    results = [task.enqueue(), task.enqueue()]
    run_due()
    assert len(dtasks.seen) == 2
    for context in dtasks.seen:
        assert isinstance(context, TaskContext) and isinstance(context, JobContext)
        assert isinstance(context.task_result, TaskResult)
        assert context.attempt == context.task_result.attempts == 1
        assert {field.name for field in dataclasses.fields(TaskContext)} <= set(dir(context))
        assert context.job_id == context.task_result.id and context.cancelled is False
        assert (context.failures, context.max_attempts) == (0, 1)
    assert {context.job_id for context in dtasks.seen} == {result.id for result in results}
    assert len(set(dtasks.seen)) == 2 and "keep_context" not in repr(dtasks.seen[0])
    assert set(Job.objects.values_list("progress", flat=True)) == {'[1,2,"half"]'}


# more than one attempt


@pytest.mark.usefixtures("at_once")
def test_between_two_attempts_a_result_is_ready_and_grows() -> None:
    result = dtasks.inspect.using(max_attempts=3).enqueue(fail_until=2)
    workers = [run_attempt(result)]
    assert (result.status, result.finished_at, result.attempts) == (READY, None, 1)
    assert [error.exception_class for error in result.errors] == [dtasks.Trouble]
    started = result.started_at
    assert started == result.last_attempted_at
    workers.append(run_attempt(result))
    assert (result.status, result.attempts, len(result.errors)) == (READY, 2, 2)
    assert result.started_at == started < result.last_attempted_at
    workers.append(run_attempt(result))
    assert (result.status, result.return_value, result.attempts) == (SUCCESSFUL, 3, 3)
    assert result.worker_ids == workers  # one for each attempt
    # And the same from inside: each attempt knows those before it, and when the first one began.
    for n, (attempt, *views) in enumerate(dtasks.seen):
        assert attempt == n + 1
        for _, _, status, worker_ids, errors, first, latest, finished_at in views:
            assert (status, worker_ids, errors, finished_at) == (RUNNING, workers[: n + 1], n, None)
            assert first <= latest if n else first == latest
            assert n == 0 or first == started


@pytest.mark.usefixtures("at_once")
def test_after_the_last_attempt_it_is_failed_with_all_errors() -> None:
    result = dtasks.fail.using(max_attempts=2).enqueue()
    run_attempt(result)
    run_attempt(result)
    assert (result.status, result.attempts, len(result.errors)) == (FAILED, 2, 2)
    assert result.finished_at > result.started_at


@pytest.mark.usefixtures("at_once")
def test_what_tasks_raise_to_decide_works_here_too() -> None:
    again, later, never = (
        dtasks.give.using(max_attempts=2).enqueue(k) for k in ("retry", "snooze", "discard")
    )
    run_due()
    for result, status, errors in ((again, READY, 1), (later, READY, 0), (never, FAILED, 1)):
        result.refresh()
        assert (result.status, len(result.errors), result.attempts) == (status, errors, 1)
    run_attempt(again)
    run_attempt(later)
    assert (again.status, len(again.errors)) == (FAILED, 2)
    later.refresh()
    assert (later.status, later.errors) == (READY, []) and later.attempts >= 2  # it puts itself off for ever


# order and time


def test_priorities_are_exactly_ordered_and_equals_first_come_first_served() -> None:
    order = [priority for priority in range(-100, 101) for _ in range(2)]
    random.Random(5).shuffle(order)
    with transaction.atomic():
        for n, priority in enumerate(order):
            dtasks.echo.using(priority=priority).enqueue(priority, n)
    run_due("mail")
    ran = [args for args, _ in dtasks.seen]
    assert ran == sorted(ran, key=lambda args: (-args[0], args[1]))
    assert len(ran) == len(order)


def test_a_delayed_job_starts_when_its_time_has_come_and_not_before() -> None:
    at = timezone.now() + timedelta(seconds=0.3)
    later, never = (
        dtasks.echo.using(run_after=at).enqueue(),
        dtasks.echo.using(run_after=timedelta(days=1)).enqueue(),
    )
    run_due()
    later.refresh()
    assert (later.status == READY and not dtasks.seen) or timezone.now() >= at
    wait_until(lambda: run_due() and dtasks.seen)
    later.refresh()
    never.refresh()
    assert later.started_at >= at
    assert (later.status, never.status) == (SUCCESSFUL, READY)


# what this code does not know


def test_a_task_that_is_gone_from_the_code_waits(caplog: pytest.LogCaptureFixture) -> None:
    gone, here = dtasks.noop.enqueue(), dtasks.echo.using(queue_name="default").enqueue()
    Job.objects.filter(pk=gone.id).update(task="tests.app.dtasks.gone_from_the_code")
    # As another version of the code would have pushed it.
    from queue_app.dispatch import connection

    connection.client().flushall()
    run_due()
    assert [bool(one) for one in dtasks.seen] == [True]
    job = Job.objects.get(pk=gone.id)
    assert (job.state, job.attempt) == (JobState.QUEUED, 0)
    assert "waits for a worker that knows its task" in caplog.text
    here.refresh()
    assert here.status == SUCCESSFUL
    gone.refresh()
    assert gone.status == READY


def test_results_of_a_task_that_left_the_code_can_be_read() -> None:
    done, failed, delayed = (
        dtasks.echo.enqueue(1),
        dtasks.fail.enqueue(),
        dtasks.noop.using(run_after=timezone.now() + timedelta(hours=1), priority=7).enqueue(),
    )
    run_due()
    Job.objects.update(task="tests.app.gone.away")
    backend = task_backends["default"]
    result = backend.get_result(done.id)
    assert (result.status, result.return_value) == (SUCCESSFUL, [[1], {}])
    assert (result.task.module_path, result.task.name) == ("tests.app.gone.away", "away")
    assert (result.task.queue_name, result.task.priority, result.args) == ("mail", 10, [1])
    with pytest.raises(UnknownTask, match=r"there is no module 'tests\.app\.gone'"):
        result.task.call()
    assert [e.exception_class for e in backend.get_result(failed.id).errors] == [dtasks.Trouble]
    later = backend.get_result(delayed.id)
    assert (later.status, later.task.priority) == (READY, 7)
    assert later.task.run_after == Job.objects.get(pk=delayed.id).run_after
    later.refresh()
    assert async_to_sync(backend.aget_result)(done.id).status == SUCCESSFUL
    mismatch = import_module(f"{API}.exceptions").TaskResultMismatch
    with pytest.raises(mismatch):
        dtasks.echo.get_result(done.id)


def test_jobs_of_a_queue_that_left_queues_run_and_can_be_read(settings: Any) -> None:
    waits = dtasks.echo.using(run_after=timezone.now() + timedelta(hours=1)).enqueue(2)
    job = dtasks.echo.enqueue(1)
    settings.TASKS = {"default": {**settings.TASKS["default"], "QUEUES": ["default"]}}
    assert task_backends["default"].get_result(job.id).status == READY
    run_due()
    result = task_backends["default"].get_result(job.id)
    assert (result.status, result.return_value) == (SUCCESSFUL, [[1], {}])
    assert (result.task.queue_name, result.task.func) == ("mail", dtasks.echo.func)
    later = task_backends["default"].get_result(waits.id)
    assert later.task.run_after == waits.task.run_after
    with pytest.raises(InvalidTask):
        later.task.enqueue(3)


def test_a_queues_defaults_hold_for_its_jobs() -> None:
    Queue.objects.create(name="mail", max_attempts=6, timeout=3.5)
    rows = [
        Job.objects.get(pk=task.enqueue().id) for task in (dtasks.echo, dtasks.echo.using(max_attempts=2))
    ]
    assert [(job.max_attempts, job.timeout) for job in rows] == [(6, 3.5), (2, 3.5)]
