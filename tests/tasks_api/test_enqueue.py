"""The contract of Django's Tasks API: what enqueueing answers, what is validated, what can be read again."""

from __future__ import annotations

import dataclasses
import inspect
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings as django_settings
from django.core import checks
from django.db import transaction
from django.test import override_settings
from django.utils import timezone

from queue_app.backend import JobQueueBackend
from queue_app.models import Job
from queue_app.tasks_api.compat import ROOT as API
from queue_app.tasks_api.compat import (
    InvalidTask,
    TaskResultDoesNotExist,
    TaskResultStatus,
    import_module,
    signals,
    task_backends,
)
from tests.app import dtasks, tasks

pytestmark = pytest.mark.django_db(transaction=True)

TaskResultMismatch = import_module(f"{API}.exceptions").TaskResultMismatch
PATH = "queue_app.backend.JobQueueBackend"
TWO = {
    "default": {"BACKEND": PATH, "QUEUES": []},
    "second": {"BACKEND": PATH, "QUEUES": [], "OPTIONS": {"max_attempts": 7, "timeout": 9}},
}


@pytest.fixture
def enqueued() -> Iterator[list[Any]]:
    """What the signal `task_enqueued` said: (sender, status, id, whether the row was there)."""
    told: list[Any] = []

    def receiver(sender: Any, task_result: Any, **_: Any) -> None:
        there = Job.objects.filter(pk=task_result.id).exists()
        told.append((sender, task_result.status, task_result.id, there))

    signals().task_enqueued.connect(receiver)
    yield told
    signals().task_enqueued.disconnect(receiver)


# what the backend says it can do


def test_the_backend_declares_all_it_can() -> None:
    backend = task_backends["default"]
    assert isinstance(backend, JobQueueBackend)
    for name in ("defer", "async_task", "get_result", "priority"):
        assert getattr(backend, f"supports_{name}") is True, name


# enqueue


def test_enqueue_answers_with_a_ready_result(enqueued: list[Any]) -> None:
    before = timezone.now()
    result = dtasks.echo.enqueue(1, (2, 3), word=b"caf\xc3\xa9")
    assert result.task == dtasks.echo
    assert isinstance(result.id, str) and 0 < len(result.id) < 64
    assert result.status == TaskResultStatus.READY
    assert before <= result.enqueued_at <= timezone.now()
    assert result.started_at is result.last_attempted_at is result.finished_at is None
    assert (result.args, result.kwargs) == ([1, [2, 3]], {"word": "café"})
    assert (result.backend, result.errors, result.worker_ids, result.attempts) == ("default", [], [], 0)
    assert not result.is_finished
    with pytest.raises(ValueError, match="has not finished yet"):
        _ = result.return_value
    assert enqueued == [(JobQueueBackend, TaskResultStatus.READY, result.id, True)]


def test_what_was_enqueued_can_be_read_again() -> None:
    result = dtasks.echo.enqueue(1, word="x")
    assert dtasks.echo.get_result(result.id) == result
    assert task_backends["default"].get_result(result.id) == result
    result.refresh()
    assert result == dtasks.echo.get_result(result.id)


def test_the_asynchronous_half_is_the_same() -> None:
    async def use() -> None:
        result = await dtasks.add.aenqueue(1, 2)
        assert await dtasks.add.aget_result(result.id) == result
        await result.arefresh()
        assert result.status == TaskResultStatus.READY
        many = await dtasks.add.aenqueue_many([((1, 2), {}), ((3,), {"b": 4})])
        assert [one.args for one in many] == [[1, 2], [3]]

    async_to_sync(use)()
    assert Job.objects.count() == 3


def test_many_are_enqueued_in_order(enqueued: list[Any]) -> None:
    results = dtasks.echo.enqueue_many([((n,), {"n": n}) for n in range(5)])
    assert [result.args for result in results] == [[n] for n in range(5)]
    assert [told[2] for told in enqueued] == [result.id for result in results]
    assert [str(pk) for pk in Job.objects.order_by("id").values_list("pk", flat=True)] == [
        r.id for r in results
    ]
    assert dtasks.echo.enqueue_many([]) == []


def test_a_transaction_that_is_rolled_back_leaves_nothing() -> None:
    kept = lost = None
    with transaction.atomic():
        kept = dtasks.noop.enqueue()
        with pytest.raises(KeyError), transaction.atomic():
            lost = dtasks.noop.enqueue()
            assert dtasks.noop.get_result(lost.id) == lost  # the caller's own transaction sees it
            raise KeyError
    assert dtasks.noop.get_result(kept.id) == kept
    with pytest.raises(TaskResultDoesNotExist):
        dtasks.noop.get_result(lost.id)


# the task of a result


@pytest.mark.parametrize(
    "options",
    [
        {"priority": -100},
        {"priority": 100, "queue_name": "bulk.eu-1"},
        {"run_after": datetime(2031, 5, 6, 7, 8, 9, 123457, tzinfo=timezone.get_fixed_timezone(0))},
        {"run_after": datetime(2031, 5, 6, 7, 8, 9, 999999, tzinfo=timezone.get_fixed_timezone(330))},
        {"priority": 5, "queue_name": "x", "backend": "second"},
    ],
)
@override_settings(TASKS=TWO)
def test_a_result_knows_its_task_as_it_was_enqueued(options: dict[str, Any]) -> None:
    task = dtasks.echo.using(**options)
    result = task.enqueue()
    assert result.task == task != dtasks.echo
    again = task.get_result(result.id)
    assert again.task == task and again == result
    assert again.task.run_after == options.get("run_after")
    assert again.backend == options.get("backend", "default")


def test_a_delay_may_be_given_instead_of_a_time() -> None:
    before = timezone.now()
    for delay in (90, 90.0, timedelta(seconds=90)):
        result = dtasks.noop.using(run_after=delay).enqueue()
        assert timedelta(0) <= result.task.run_after - before - timedelta(seconds=90) < timedelta(seconds=20)
        assert Job.objects.get(pk=result.id).run_after == result.task.run_after


@override_settings(TASKS=TWO)
def test_options_come_from_the_call_the_task_or_the_backend() -> None:
    def row(task: Any) -> tuple[int, float | None]:
        job = Job.objects.get(pk=task.enqueue().id)
        return job.max_attempts, job.timeout

    assert row(dtasks.noop) == (1, None)  # the standard: one attempt
    assert row(dtasks.noop.using(max_attempts=3, timeout=2)) == (3, 2)
    assert row(dtasks.noop.using(backend="second")) == (7, 9)
    assert row(dtasks.noop.using(backend="second", max_attempts=2)) == (2, 9)


OTHER = {"default": TWO["default"], "other": {"BACKEND": f"{API}.backends.dummy.DummyBackend", "QUEUES": []}}


@override_settings(TASKS=OTHER)
def test_a_task_of_another_backend_can_be_sent_here() -> None:
    task = type(dtasks.noop).__base__(
        func=dtasks.plain, priority=0, queue_name="x", backend="other", run_after=None
    )
    sent = task.using(backend="default")
    assert type(sent) is not type(dtasks.noop)  # a plain Task, without our options
    result = sent.enqueue()
    assert Job.objects.get(pk=result.id).max_attempts == 1


@pytest.mark.parametrize("options", [{"backoff": {"base": 1}}, {"backoff": [5]}])
def test_a_task_whose_options_have_no_hash(options: dict[str, Any]) -> None:
    if isinstance(options["backoff"], list):
        with pytest.raises(InvalidTask, match="backoff must be seconds"):
            type(dtasks.noop)(func=dtasks.plain, **_required(), **options)
        return
    task = type(dtasks.noop)(func=dtasks.plain, **_required(), **options)
    assert task.enqueue().status == TaskResultStatus.READY


def _required() -> dict[str, Any]:
    """Fields that have no default on Django 6.0."""
    return {"priority": 0, "queue_name": "default", "backend": "default", "run_after": None}


# results that are not there


@pytest.mark.parametrize(
    "result_id",
    [
        "",
        "x",
        "0" * 36,
        "9" * 5000,
        "\x00",
        "é",
        "../..",
        None,
        5,
        -1,
        2**200,
        1.5,
        b"x",
        [],
        str(uuid.uuid4()),
        uuid.uuid4(),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_is_no_result_does_not_exist(result_id: Any) -> None:
    dtasks.noop.enqueue()
    with pytest.raises(TaskResultDoesNotExist) as caught:
        task_backends["default"].get_result(result_id)
    assert len(str(caught.value)) < 200
    with pytest.raises(TaskResultDoesNotExist):
        async_to_sync(task_backends["default"].aget_result)(result_id)


@override_settings(TASKS=TWO)
def test_a_result_belongs_to_its_backend() -> None:
    there = dtasks.noop.using(backend="second").enqueue()
    assert task_backends["second"].get_result(there.id) == there
    with pytest.raises(TaskResultDoesNotExist):
        task_backends["default"].get_result(there.id)
    own = tasks.noop.enqueue()
    with pytest.raises(TaskResultDoesNotExist):
        task_backends["default"].get_result(own.id)


def test_a_result_belongs_to_its_task() -> None:
    result = dtasks.echo.enqueue()
    with pytest.raises(TaskResultMismatch):
        dtasks.noop.get_result(result.id)
    with pytest.raises(TaskResultMismatch):
        async_to_sync(dtasks.noop.aget_result)(result.id)
    assert dtasks.echo.using(priority=-5).get_result(result.id) == result  # options are no other task


# validation


def test_results_are_deleted_with_their_rows() -> None:
    result = dtasks.noop.enqueue()
    Job.objects.all().delete()
    with pytest.raises(TaskResultDoesNotExist):
        result.refresh()


@pytest.mark.parametrize(
    "options,said",
    [
        ({"priority": 101}, "priority must be a whole number between -100 and 100"),
        ({"priority": -101}, "priority must be"),
        ({"priority": 1.5}, "priority must be"),
        ({"run_after": datetime(2030, 1, 1)}, "run_after must be an aware datetime"),
        ({"queue_name": "a b"}, "queue_name is 'a b'"),
        ({"max_attempts": 0}, "max_attempts is 0"),
        ({"timeout": "soon"}, "timeout is 'soon'"),
    ],
)
def test_a_wrong_option_is_an_invalid_task(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidTask, match=said):
        dtasks.noop.using(**options)


def test_sensitive_arguments_are_those_of_the_function() -> None:
    (name,) = list(inspect.signature(dtasks.add.func).parameters)[:1]
    assert dataclasses.replace(dtasks.add, sensitive=[name]).sensitive == [name]
    with pytest.raises(InvalidTask, match="sensitive has 'crad', which is no argument of 'add'"):
        dataclasses.replace(dtasks.add, sensitive=["crad"])


def test_an_atomic_task_is_a_plain_function() -> None:
    assert dataclasses.replace(dtasks.noop, atomic=True).atomic
    with pytest.raises(InvalidTask, match="'add' is atomic=True and a coroutine function"):
        dataclasses.replace(dtasks.add, atomic=True)
    with pytest.raises(InvalidTask, match="atomic is 1; use True or False"):
        dataclasses.replace(dtasks.noop, atomic=1)


def test_what_cannot_be_a_task() -> None:
    def local() -> None: ...

    for func in (local, lambda: None, len):
        with pytest.raises(InvalidTask, match="module level"):
            type(dtasks.noop)(func=func, **_required())
    with pytest.raises(InvalidTask, match="context"):
        type(dtasks.noop)(func=dtasks.plain, takes_context=True, **_required())


def test_what_no_worker_would_import_is_an_invalid_task() -> None:
    def plain() -> None: ...

    plain.__module__, plain.__qualname__ = "scripts.nightly", "plain"
    declared = dataclasses.replace(dtasks.noop, func=plain)
    with pytest.raises(InvalidTask, match="its module is not part of an installed app"):
        declared.enqueue()
    settings = {**django_settings.QUEUE_APP, "TASK_MODULES": ["scripts"]}
    with override_settings(QUEUE_APP=settings):
        assert declared.enqueue().task.module_path == "scripts.nightly.plain"


def test_numbers_that_equal_whole_ones_are_stored_as_such() -> None:
    for value in (True, 5.0):
        result = dtasks.noop.using(priority=value).enqueue()
        assert Job.objects.get(pk=result.id).priority == int(value)


@pytest.mark.parametrize("way", ["enqueue", "aenqueue", "enqueue_many"])
def test_a_task_is_validated_again_when_it_is_enqueued(way: str) -> None:
    def send(task: Any) -> Any:
        if way == "enqueue_many":
            return task.enqueue_many([((), {})])
        return task.enqueue() if way == "enqueue" else async_to_sync(task.aenqueue)()

    task = dtasks.noop.using(queue_name="anything")
    late = dtasks.noop.using(run_after=timezone.now() + timedelta(days=1))
    send(task)
    with override_settings(TASKS={"default": {"BACKEND": PATH, "QUEUES": ["mail"]}}):
        with pytest.raises(InvalidTask, match="Queue 'anything' is not valid for backend"):
            send(task)
        assert Job.objects.count() == 1
    send(late)
    with override_settings(USE_TZ=False):
        naive = dtasks.noop.using(run_after=datetime(2030, 1, 1))
    with pytest.raises(InvalidTask, match="aware"):
        send(naive)
    assert Job.objects.count() == 2


@pytest.mark.parametrize(
    "args,kwargs,said",
    [
        ((object(),), {}, r"args\[0\] is of type builtins.object"),
        (
            (),
            {"when": {"at": datetime(2030, 1, 1)}},
            r"kwargs\['when'\]\['at'\] is of type datetime.datetime",
        ),
        ((b"\xff",), {}, r"args\[0\] is bytes that are not UTF-8"),
        (("a\x00",), {}, "U\\+0000"),
        (("x" * 300_000,), {}, "300,009 bytes of JSON; PAYLOAD_LIMIT is 262,144"),
    ],
)
def test_arguments_that_are_not_json(args: Any, kwargs: Any, said: str, enqueued: list[Any]) -> None:
    # The standard's exception is TypeError, for bytes that are not UTF-8 ValueError: it is both.
    for kind in (TypeError, ValueError):
        with pytest.raises(kind, match=said):
            dtasks.echo.enqueue(*args, **kwargs)
    with pytest.raises(TypeError, match=said):
        dtasks.echo.enqueue_many([((1,), {}), (args, kwargs)])
    assert not Job.objects.exists() and not enqueued


# system checks


@pytest.mark.parametrize(
    "params,found",
    [
        ({"OPTIONS": {"max_attempts": 3, "timeout": 5}}, []),
        (
            {"OPTIONS": {"max_atempts": 3}},
            [("queue_app.E002", "'max_atempts'. Did you mean 'max_attempts'?")],
        ),
        ({"OPTIONS": {"max_attempts": 0}}, [("queue_app.E003", "max_attempts is 0")]),
        ({"OPTIONS": {"timeout": "5"}}, [("queue_app.E003", "timeout is '5'")]),
        ({"QUEUES": ["mail", "a b"]}, [("queue_app.E003", "queue_name is 'a b'")]),
    ],
)
def test_wrong_settings_of_a_backend_are_found_by_check(params: dict[str, Any], found: list[Any]) -> None:
    with override_settings(TASKS={"default": {"BACKEND": PATH} | params}):
        messages = [m for m in checks.run_checks() if str(m.id).startswith("queue_app.E")]
    assert [m.id for m in messages] == [one[0] for one in found]
    assert all(one[1] in m.msg for m, one in zip(messages, found, strict=True))
