"""Schedules: how their jobs are made, and what operators may do to a schedule.

A job of a schedule is made as `task.using(queue_name=…, priority=…).enqueue(*args, **kwargs)` would make it, with the
schedule's queue and priority where it has them.

A tick imports nothing, because importing a module could hang or end the leader, which does the duties for all. If the
task's module is not imported, the options count that were kept when the schedule was saved (`scheduling.task_options`).
If none were kept, the queue is `default` and the priority 0. Running such a schedule by hand imports the task. A job
of a task that no worker knows waits for a worker that does (P10).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from django.db import Error, transaction

from queue_app import signals
from queue_app.domain.names import check_queue, priority_of
from queue_app.domain.task_options import load_options
from queue_app.exceptions import InvalidJob, InvalidOption, QueueAppError
from queue_app.models import Schedule
from queue_app.models.sql import write_alias
from queue_app.scheduling.task_options import options_of, remember_options
from queue_app.tasks import producer, registry

#: Enqueues calls, each `(args, kwargs)`, not to start before a time (None: at once), perhaps with `meta`. Returns the
#: jobs' ids.
Enqueue = Callable[..., list[str]]


def enqueuer(task: str, queue: str | None, priority: int | None, kept: str = "") -> Enqueue:
    """A function that enqueues calls of a task for a schedule. Imports nothing.

    Args:
        task: dotted path.
        queue, priority: None leaves them to the task.
        kept: the schedule's `task_options`.

    Raises:
        InvalidOption: the queue or the priority is wrong, or another backend runs the task.
        Exception: the task's backend refuses the options.
    """
    known = registry.loaded_task(task)
    options = load_options(kept, task) if known is None else options_of(task, known.task)
    if not options.ours:
        raise InvalidOption(
            f"task is {task!r}, which runs on the backend {options.backend!r}, and that is not this queue."
        )
    if known is not None:
        return partial(_enqueue_known, known.task.using(queue_name=queue, priority=priority))
    queue = check_queue(queue or options.queue)
    priority = priority_of(options.priority if priority is None else priority)
    return partial(producer.submit_kept, replace(options, queue=queue, priority=priority))


def _enqueue_known(
    task: Any, calls: Sequence[Any], run_after: datetime | None, meta: producer.Meta = None
) -> list[str]:
    return producer.submit(task if run_after is None else task.using(run_after=run_after), calls, meta)


def run_now(schedule: Schedule, *, user: Any = None, meta: producer.Meta = None) -> str:
    """Enqueue a job of this schedule that may start at once, also while it is paused. Its ticks do not change.

    Args:
        user: who asks, for the audit signal.
        meta: what the job carries about itself.

    Returns:
        The id of the job.

    Raises:
        InvalidJob: it cannot be enqueued; the message says why.
    """
    if not schedule.task_options:  # it was saved where the task was not known, or by an older release
        remember_options(schedule)
    try:
        with transaction.atomic(using=write_alias()):
            enqueue = enqueuer(schedule.task, schedule.queue, schedule.priority, schedule.task_options)
            (job_id,) = enqueue([schedule.call], None, meta)
    except (QueueAppError, Error):
        raise
    except Exception as error:  # from the task's backend, or a receiver of its signals
        raise InvalidJob(f"The schedule {schedule.name!r} cannot be enqueued: {error}") from error
    tell("run schedule", schedule, user)
    return job_id


def pause(schedule: Schedule, *, user: Any = None) -> Schedule:
    """Pause a schedule. A job that is enqueued already, up to `AHEAD` seconds before its time, still runs."""
    return _set_paused(schedule, True, user)


def resume(schedule: Schedule, *, user: Any = None) -> Schedule:
    """Resume a schedule from now on. Ticks that it missed while it was paused are not enqueued.

    Raises:
        InvalidOption: its cron expression or its time zone is wrong.
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
