"""Schedules: what a tick enqueues, and what operators may do to a schedule.

One rule says how a job of a schedule is made: as `task.using(queue_name=…, priority=…).enqueue(*args, **kwargs)` would
make it, with the schedule's queue and priority where it has them, in the process that enqueues it. That process imports
code of installed apps alone: any other module could hang, or end, whoever does the duties for all. Where it does not
know the task, the job waits for a worker that does (P10), in the schedule's queue or `default`, with its priority or 0,
and with the attempts and the time limit of the queue's row or the settings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from django.db import Error, transaction

from queue_app import conf, registry, serialization, signals
from queue_app.declare import Task
from queue_app.exceptions import InvalidJob, InvalidOption, QueueAppError, UnknownTask
from queue_app.lifecycle import enqueue
from queue_app.models import Schedule
from queue_app.models.bulk import write_alias
from queue_app.names import check_queue, priority_of

#: Enqueues calls, each `(args, kwargs)`, not to start before a time (None: at once), and returns the jobs' ids.
Enqueue = Callable[[Sequence[Any], datetime | None], list[str]]


def enqueuer(task: str, queue: str | None, priority: int | None) -> Enqueue:
    """How calls of a task are enqueued for a schedule.

    Args:
        task: dotted path.
        queue, priority: None leaves them to the task.

    Raises:
        InvalidOption: the queue or the priority is wrong, or the task's jobs are not ours to run.
        Exception: what else the task's backend says against them.
    """
    try:
        known = registry.look_up(task).task
    except UnknownTask:
        return partial(_enqueue_unknown, task, check_queue(queue or "default"), priority_of(priority or 0))
    if not isinstance(known, Task) and not hasattr(known.get_backend(), "enqueue_many"):
        raise InvalidOption(
            f"task is {task!r}, which runs on the backend {known.backend!r}, and that is not this queue."
        )
    return partial(_enqueue_known, known.using(queue_name=queue, priority=priority))


def _enqueue_known(task: Any, calls: Sequence[Any], run_after: datetime | None) -> list[str]:
    if run_after is not None:
        task = task.using(run_after=run_after)
    if isinstance(task, Task):
        return [result.id for result in task.enqueue_many(calls)]
    return [result.id for result in task.get_backend().enqueue_many(task, calls)]


def _enqueue_unknown(
    task: str, queue: str, priority: int, calls: Sequence[Any], run_after: datetime | None
) -> list[str]:
    settings = conf.get()
    request = enqueue.Request(
        task=task,
        queue=queue,
        priority=priority,
        run_after=run_after,
        backend="",
        max_attempts=None,
        timeout=None,
        fallback_attempts=settings.MAX_ATTEMPTS,
    )
    limit = settings.PAYLOAD_LIMIT
    payloads = [serialization.dump_arguments(args, kwargs, limit) for args, kwargs in calls]
    return enqueue.enqueue(request, payloads).ids


def run_now(schedule: Schedule, *, user: Any = None) -> str:
    """Enqueue a run of this schedule that may start at once, paused or not; its ticks go on as they would have.

    Args:
        user: who asks, for the audit signal.

    Returns:
        The id of the job.

    Raises:
        InvalidJob: it cannot be enqueued; says why.
    """
    try:
        with transaction.atomic(using=write_alias()):
            found = enqueuer(schedule.task, schedule.queue, schedule.priority)([schedule.call], None)
    except (QueueAppError, Error):
        raise
    except Exception as error:  # the task's backend, or who listens to its signals
        raise InvalidJob(f"The schedule {schedule.name!r} cannot be enqueued: {error}") from error
    tell("run schedule", schedule, user)
    return found[0]


def pause(schedule: Schedule, *, user: Any = None) -> Schedule:
    """Let it be due no more. A job that is enqueued already, up to `AHEAD` seconds before its time, still runs."""
    return _set_paused(schedule, True, user)


def resume(schedule: Schedule, *, user: Any = None) -> Schedule:
    """Let it be due again, from now on: what it would have run meanwhile is not made up for.

    Raises:
        InvalidOption: its cron expression or its zone is wrong.
    """
    return _set_paused(schedule, False, user)


def _set_paused(schedule: Schedule, paused: bool, user: Any) -> Schedule:
    schedule.paused = paused
    schedule.save(using=write_alias(), update_fields=["paused"])
    tell("pause schedule" if paused else "resume schedule", schedule, user)
    return schedule


def tell(verb: str, schedule: Schedule, user: Any) -> None:
    """Send the audit signal."""
    signals.operated.send_robust(
        sender=None, verb=verb, user=user, count=1, filter={"schedule": schedule.name}
    )
