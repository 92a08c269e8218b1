"""TaskResults of the Tasks API: from rows (`get_result`), and from deliveries (for the worker's signals).

A job has nine states, a TaskResult four. Waiting jobs are READY. Every end but success is FAILED, with an error that
says why.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from functools import lru_cache
from typing import Any

from queue_app import clock
from queue_app.domain import serialization
from queue_app.domain.delivery import Delivery
from queue_app.domain.states import JobState
from queue_app.exceptions import UnknownTask
from queue_app.lifecycle.state_now import state_now
from queue_app.models import Job
from queue_app.models.sql import write_alias
from queue_app.tasks.context import AttemptMonitor, JobContext
from queue_app.tasks.handle import FAILED_ATTEMPTS
from queue_app.tasks_api.compat import TaskContext, TaskError, TaskResult, TaskResultStatus
from queue_app.tasks_api.task_objects import stand_in, task_of

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

#: TaskResult is frozen; the standard's own backends write its fields in this way.
set_field = object.__setattr__


def of_row(job: Job) -> Any:
    """The TaskResult of a job as it is now. Where the code has no such task, `task` is a stand-in with its path and
    options."""
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
        task = stand_in(job.task, job.priority, job.queue, job.backend, job.run_after, str(error))
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
        set_field(result, "_return_value", serialization.load(job.result))
    return result


def of_delivery(d: Delivery, worker_id: str, started_at: float, *, task: Any = None) -> Any:
    """The TaskResult of an attempt that begins.

    Args:
        started_at: epoch seconds.
        task: its task, or a stand-in; None: look the task up, which may import its module.

    Raises:
        UnknownTask: the code has no such task.
        InvalidTaskBackend: TASKS has no such backend.
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
    """The context of a job that came through the Tasks API: the standard's and ours in one."""

    def __init__(self, delivery: Delivery, task_result: Any, attendant: AttemptMonitor | None) -> None:
        TaskContext.__init__(self, task_result=task_result)
        JobContext.__init__(self, delivery, task_result, attendant)

    # The standard's methods are those of a frozen value, and its repr shows the arguments.
    __setattr__ = object.__setattr__
    __eq__ = object.__eq__
    __hash__ = object.__hash__
    __repr__ = object.__repr__


class _Open(TaskResult):  # type: ignore[misc]
    """A TaskResult while its fields are set. The standard's own class is frozen, so each field that is set is a Python
    call, and it normalises arguments that are JSON already. Both cost more than all the rest."""

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


#: Makes a TaskResult of the values of _FIELDS, in this order. Arguments must be JSON already. If a later TaskResult has
#: other fields, its own constructor is used.
make: Any = (
    _Open if {f.name for f in dataclasses.fields(TaskResult)} == {*_FIELDS, "_return_value"} else _by_name
)

#: Jobs of one enqueue share their time.
_enqueued_at = lru_cache(maxsize=256)(clock.from_seconds)
