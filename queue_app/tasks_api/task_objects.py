"""Task objects of the Tasks API, for jobs that are there already: as they were enqueued, or a stand-in."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from functools import lru_cache
from typing import Any

from django.core.signals import setting_changed

from queue_app.exceptions import UnknownTask
from queue_app.tasks import registry
from queue_app.tasks_api.compat import InvalidTask, task_backends


def task_of(name: str, priority: int, queue: str, backend: str, run_after: datetime | None) -> Any:
    """The task as it was enqueued: `import_string(name).using(…)`.

    Args:
        name: dotted path of the task.
        backend: alias in TASKS.
        run_after: aware datetime, or None for at once.

    Raises:
        UnknownTask: the code has no such task any more.
    """
    task = _task_of(name, priority, queue, backend)
    return task if run_after is None else _using(task, run_after=run_after)


@lru_cache(maxsize=10_000)
def _task_of(name: str, priority: int, queue: str, backend: str) -> Any:
    """Kept, because making a task with other options costs more than running many jobs."""
    task = registry.look_up(name).task
    if not registry.alias_of(task):
        raise UnknownTask(f"{name!r} is not a task of the Tasks API.")
    return _using(task, priority=priority, queue_name=queue, backend=backend)


def _using(task: Any, **options: Any) -> Any:
    """`task.using(…)`, also where the settings no longer allow it, for example because the queue has left QUEUES. The
    job exists all the same, and runs where a worker serves its queue."""
    try:
        return task.using(**options)
    except InvalidTask:
        values = {field.name: getattr(task, field.name) for field in dataclasses.fields(task)}
        return _unchecked(type(task), values | options)


def _unchecked(cls: Any, values: dict[str, Any]) -> Any:
    """A task made without its `__post_init__`, which is where the standard validates."""
    task = object.__new__(cls)
    for field in dataclasses.fields(cls):
        object.__setattr__(task, field.name, values.get(field.name, field.default))
    return task


def stand_in(name: str, priority: int, queue: str, backend: str, run_after: datetime | None, why: str) -> Any:
    """A substitute for a task that cannot be had: it has the path and options of the task, and cannot be run.

    Args:
        why: the message of the `UnknownTask` that it raises when it is called.

    Raises:
        InvalidTaskBackend: TASKS has no such backend.
    """

    def missing(*args: Any, **kwargs: Any) -> None:
        raise UnknownTask(why)

    missing.__module__, _, missing.__name__ = name.rpartition(".")
    missing.__qualname__ = missing.__name__
    values = {
        "func": missing,
        "priority": priority,
        "queue_name": queue,
        "backend": backend,
        "run_after": run_after,
        "takes_context": False,
    }
    return _unchecked(task_backends[backend].task_class, values)


def _settings_changed(*, setting: str, **_: Any) -> None:
    if setting == "TASKS":
        _task_of.cache_clear()


setting_changed.connect(_settings_changed, dispatch_uid="queue_app.tasks_api.task_objects")
