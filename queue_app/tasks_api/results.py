"""TaskResults of the Tasks API: from rows (`get_result`), and from deliveries (the worker's signals).

Ours has nine states, the standard four: waiting ones are READY, and every end but success is FAILED, with an error
entry that says why.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from functools import lru_cache
from typing import Any

from django.core.signals import setting_changed

from queue_app import clock
from queue_app.domain import serialization
from queue_app.domain.delivery import Delivery
from queue_app.domain.outcome import Outcome
from queue_app.domain.states import FINAL, AttemptState, JobState
from queue_app.exceptions import UnknownTask
from queue_app.lifecycle.state_now import state_now
from queue_app.models import Job
from queue_app.models.sql import write_alias
from queue_app.signals import attempts_finished
from queue_app.tasks import registry
from queue_app.tasks.context import AttemptMonitor, JobContext
from queue_app.tasks.handle import FAILED_ATTEMPTS
from queue_app.tasks_api.compat import (
    InvalidTask,
    InvalidTaskBackend,
    TaskContext,
    TaskError,
    TaskResult,
    TaskResultStatus,
    signals,
    task_backends,
)

_STATUS = {
    JobState.SCHEDULED: TaskResultStatus.READY,
    JobState.BLOCKED: TaskResultStatus.READY,
    JobState.QUEUED: TaskResultStatus.READY,
    JobState.RETRYING: TaskResultStatus.READY,
    JobState.RUNNING: TaskResultStatus.RUNNING,
    JobState.SUCCEEDED: TaskResultStatus.SUCCESSFUL,
    JobState.FAILED: TaskResultStatus.FAILED,
    JobState.CANCELLED: TaskResultStatus.FAILED,
    JobState.EXPIRED: TaskResultStatus.FAILED,
}

SUCCEEDED = AttemptState.SUCCEEDED

_signals = signals()
for _signal in (_signals.task_enqueued, _signals.task_started, _signals.task_finished):
    # Django's own switch for signals that are sent very often (its model signals have it): the receivers of a sender
    # are looked up once, and again after every connect and disconnect.
    _signal.use_caching = True
    _signal.sender_receivers_cache = {}  # senders are classes of backends, which stay
#: TaskResult is frozen; the standard's own backends write its fields in this way.
_set = object.__setattr__
_senders: dict[str, type] = {}
#: (path, priority, queue, backend) → the task with these options: rebuilding one costs more than running many.
_tasks: dict[tuple[str, int, str, str], Any] = {}


def task_of(name: str, priority: int, queue: str, backend: str, run_after: datetime | None) -> Any:
    """The task as it was enqueued: `import_string(path).using(…)`.

    Raises:
        UnknownTask: the code knows it no longer.
    """
    key = (name, priority, queue, backend)
    task = _tasks.get(key)
    if task is None:
        task = registry.look_up(name).task
        if not registry.alias_of(task):
            raise UnknownTask(f"{name!r} is not a task of the Tasks API.")
        task = _using(task, priority=priority, queue_name=queue, backend=backend)
        if len(_tasks) > 10_000:
            _tasks.clear()
        _tasks[key] = task
    return task if run_after is None else _using(task, run_after=run_after)


def _using(task: Any, **options: Any) -> Any:
    """`task.using(…)`, also if these settings would not take it any more (its queue has left QUEUES): the job is there
    all the same, and runs where a worker serves its queue."""
    try:
        return task.using(**options)
    except InvalidTask:
        values = {field.name: getattr(task, field.name) for field in dataclasses.fields(task)}
        return _unchecked(type(task), values | options)


def _unchecked(cls: Any, values: dict[str, Any]) -> Any:
    """A task made without its `__post_init__`, which is where the standard validates."""
    task = object.__new__(cls)
    for field in dataclasses.fields(cls):
        _set(task, field.name, values.get(field.name, field.default))
    return task


def _stand_in(
    name: str, priority: int, queue: str, backend: str, run_after: datetime | None, why: str
) -> Any:
    """In place of a task that the code does not know (any more): has its path and options, and cannot be run."""

    def gone(*args: Any, **kwargs: Any) -> None:
        raise UnknownTask(why)

    gone.__module__, _, gone.__name__ = name.rpartition(".")
    gone.__qualname__ = gone.__name__
    values = {
        "func": gone,
        "priority": priority,
        "queue_name": queue,
        "backend": backend,
        "run_after": run_after,
        "takes_context": False,
    }
    return _unchecked(task_backends[backend].task_class, values)


def of_row(job: Job) -> Any:
    """The TaskResult of a job, as everyone should see it now. Of a task that the code does not know, `task` is a
    stand-in with its path and options; what became of the job is in its row all the same."""
    state = state_now(job)
    attempts = list(job.attempts.using(write_alias()).order_by("number")) if job.attempt else []
    errors = [
        TaskError(exception_class_path=a.error_class, traceback=a.traceback or a.error)
        for a in attempts
        if a.state in FAILED_ATTEMPTS and a.error_class
    ]
    if state in (JobState.CANCELLED, JobState.EXPIRED):
        errors.append(
            TaskError(
                exception_class_path="queue_app.exceptions.IllegalTransition",
                traceback=f"The job was {state.value}.",
            )
        )
    worker_ids = [str(a.worker_id or "") for a in attempts]
    if state is JobState.RUNNING and (not attempts or job.attempt == attempts[-1].number):
        worker_ids.append(str(job.worker_id or ""))
    try:
        task = task_of(job.task, job.priority, job.queue, job.backend, job.run_after)
    except UnknownTask as error:
        task = _stand_in(job.task, job.priority, job.queue, job.backend, job.run_after, str(error))
    result = make(
        task,
        str(job.pk),
        _STATUS[state],
        job.enqueued_at,
        job.started_at,
        job.last_attempted_at,
        job.finished_at,
        job.args,
        job.kwargs,
        job.backend,
        errors,
        worker_ids,
    )
    if job.result is not None:
        _set(result, "_return_value", serialization.load(job.result))
    return result


def of_delivery(d: Delivery, worker_id: str, started_at: float, *, task: Any = None) -> Any:
    """The TaskResult of an attempt that begins.

    Args:
        task: what stands for its task; None: the task itself, whose module is imported if need be.
    """
    now = clock.from_seconds(started_at)
    run_after = None if d.run_after is None else clock.from_seconds(d.run_after)
    errors, worker_ids = [], [worker_id]
    if d.history:
        errors = [TaskError(exception_class_path=name, traceback=text) for _, name, text in d.history if name]
        worker_ids = [*(worker for worker, _, _ in d.history), worker_id]
    return make(
        task or task_of(d.task, d.priority, d.queue, d.backend, run_after),
        d.id,
        TaskResultStatus.RUNNING,
        _enqueued_at(d.enqueued_at),
        now if d.started_at is None else clock.from_seconds(d.started_at),
        now,
        None,
        d.args,
        d.kwargs,
        d.backend,
        errors,
        worker_ids,
    )


class TaskJobContext(JobContext, TaskContext):  # type: ignore[misc]
    """The context of a job that came through the Tasks API: the standard's, with what ours knows besides."""

    def __init__(self, delivery: Delivery, task_result: Any, attendant: AttemptMonitor | None) -> None:
        TaskContext.__init__(self, task_result=task_result)
        JobContext.__init__(self, delivery, task_result, attendant)

    # The standard's are those of a frozen value; and its repr shows the arguments.
    __setattr__ = object.__setattr__
    __eq__ = object.__eq__
    __hash__ = object.__hash__
    __repr__ = object.__repr__


class _Open(TaskResult):  # type: ignore[misc]
    """A TaskResult while it is filled. The standard's own is frozen, which makes every field that is set a call of
    Python code; and it normalises arguments that are JSON already. Both cost more than all the rest of it."""

    __slots__ = ()
    __setattr__ = object.__setattr__
    __delattr__ = object.__delattr__

    def __init__(
        self, task: Any, id: str, status: Any, enqueued_at: datetime, started_at: datetime | None,
        last_attempted_at: datetime | None, finished_at: datetime | None, args: list[Any], kwargs: dict[str, Any],
        backend: str, errors: list[Any], worker_ids: list[str],
    ) -> None:  # fmt: skip
        self.task = task
        self.id = id
        self.status = status
        self.enqueued_at = enqueued_at
        self.started_at = started_at
        self.last_attempted_at = last_attempted_at
        self.finished_at = finished_at
        self.args = args
        self.kwargs = kwargs
        self.backend = backend
        self.errors = errors
        self.worker_ids = worker_ids
        self._return_value = None
        self.__class__ = TaskResult


_FIELDS = (
    "task", "id", "status", "enqueued_at", "started_at", "last_attempted_at", "finished_at", "args", "kwargs",
    "backend", "errors", "worker_ids",
)  # fmt: skip


def _by_name(*values: Any) -> Any:
    return TaskResult(**dict(zip(_FIELDS, values, strict=True)))


#: Makes a TaskResult of the values of _FIELDS, in this order; arguments must be JSON already. A later TaskResult with
#: other fields makes itself.
make: Any = (
    _Open if {f.name for f in dataclasses.fields(TaskResult)} == {*_FIELDS, "_return_value"} else _by_name
)

#: Jobs of one enqueue share their time.
_enqueued_at = lru_cache(maxsize=256)(clock.from_seconds)


def send_started(result: Any) -> None:
    """Send `task_started`; the sender is the backend's class, as the standard has it."""
    _signals.task_started.send_robust(sender_of(result.backend), task_result=result)


def on_attempts_finished(outcomes: list[Outcome], worker_id: str, **_: Any) -> None:
    """Send `task_finished` for committed outcomes that are final, of jobs that came through the Tasks API; also for
    those that the keeper recorded, after a child's death or a hard time limit. It must not import their modules: that
    may be what their children died of. A stand-in then takes the task's place."""
    for outcome in outcomes:
        delivery = outcome.delivery
        if not delivery.backend or (outcome.state is not SUCCEEDED and outcome.job_state not in FINAL):
            continue
        if outcome.task_result is None:
            started = outcome.started_at or outcome.finished_at
            try:
                outcome.task_result = of_delivery(
                    delivery, worker_id, started, task=_without_import(delivery)
                )
            except (UnknownTask, InvalidTaskBackend, InvalidTask):
                continue  # not of the Tasks API, or of a backend that is not known here
        send_finished(outcome)


def _without_import(d: Delivery) -> Any:
    """A stand-in for a task whose module has not been imported here; None if it has been."""
    if registry.loaded_task(d.task) is not None:
        return None
    run_after = None if d.run_after is None else clock.from_seconds(d.run_after)
    why = f"The module of {d.task!r} has not been imported in this process."
    return _stand_in(d.task, d.priority, d.queue, d.backend, run_after, why)


def send_finished(outcome: Outcome) -> None:
    """Send `task_finished`; of a failure inside an except block, as log receivers take the exception from
    `sys.exc_info()`."""
    result = outcome.task_result
    _set(result, "finished_at", clock.from_seconds(outcome.finished_at))
    if outcome.state is SUCCEEDED:
        _set(result, "status", TaskResultStatus.SUCCESSFUL)
        _set(result, "_return_value", None if outcome.result is None else serialization.load(outcome.result))
        _signals.task_finished.send_robust(sender_of(result.backend), task_result=result)
        return
    _set(result, "status", TaskResultStatus.FAILED)
    result.errors.append(TaskError(exception_class_path=outcome.error_class, traceback=outcome.traceback))
    # The exception itself may repeat a sensitive argument; what is masked of it is in the result's errors.
    if outcome.exception is None or bool(getattr(result.task, "sensitive", None)):
        _signals.task_finished.send_robust(sender_of(result.backend), task_result=result)
        return
    try:
        raise outcome.exception
    except BaseException:  # of a task: anything
        _signals.task_finished.send_robust(sender_of(result.backend), task_result=result)


def sender_of(alias: str) -> type:
    """The class of the backend of this alias."""
    found = _senders.get(alias)
    if found is None:
        found = _senders[alias] = type(task_backends[alias])
    return found


def _forget(*, setting: str, **_: Any) -> None:
    if setting == "TASKS":
        _senders.clear()
        _tasks.clear()


setting_changed.connect(_forget, dispatch_uid="queue_app.tasks_api.results")
attempts_finished.connect(on_attempts_finished, dispatch_uid="queue_app.tasks_api.results")
