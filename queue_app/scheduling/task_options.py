"""The options of a schedule's task: read from the task object where it is known, and kept with the schedule."""

from __future__ import annotations

from typing import Any

from queue_app import signals
from queue_app.domain.task_options import TaskOptions, dump_options
from queue_app.exceptions import UnknownTask
from queue_app.models import Schedule
from queue_app.tasks import registry


def options_of(name: str, task: Any) -> TaskOptions:
    """The options of a task object.

    Raises:
        Exception: its backend is not configured.
    """
    return TaskOptions(
        task=name,
        queue=task.queue_name,
        priority=int(task.priority),
        backend=registry.alias_of(task),
        ours=registry.runs_here(registry.backend_of(task)),
        max_attempts=getattr(task, "max_attempts", None),
        timeout=getattr(task, "timeout", None),
    )


def remember_options(schedule: Schedule) -> None:
    """Copy the options of a schedule's task to the schedule, without saving it. The task's module is imported if
    necessary. If the task is unknown here, the options that were kept before stay."""
    try:
        options = options_of(schedule.task, registry.look_up(schedule.task).task)
    except UnknownTask:
        return
    except Exception:  # its backend is not in TASKS, or cannot be made
        return
    schedule.task_options = dump_options(options)


def _on_task_written(*, schedule: Schedule, **_: Any) -> None:
    remember_options(schedule)


signals.schedule_task_written.connect(_on_task_written, dispatch_uid="queue_app.scheduling")
