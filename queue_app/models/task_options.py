"""What a task says of its jobs, kept with its schedules: a leader must not import a module to know it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from queue_app import registry
from queue_app.exceptions import UnknownTask


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """The options of a task that a job's row has.

    Attributes:
        task: whose they are, a dotted path.
        backend: its alias in TASKS; empty for a task of `queue_app.task`.
        ours: whether its jobs run on this queue.
        max_attempts, timeout: None leaves them to the queue's or the settings' default.
    """

    task: str
    queue: str = "default"
    priority: int = 0
    backend: str = ""
    ours: bool = True
    max_attempts: int | None = None
    timeout: float | None = None


def options_of(name: str, task: Any) -> TaskOptions:
    """The options of a task object.

    Raises:
        Exception: what its backend says if there is none of its alias.
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


def dump_options(name: str) -> str | None:
    """The options of the task of this path, as text to keep; its module is imported if need be. None: there is no
    such task here."""
    try:
        return json.dumps(asdict(options_of(name, registry.look_up(name).task)))
    except UnknownTask:
        return None
    except Exception:  # its backend is not in TASKS, or cannot be made
        return None


def load_options(text: str, name: str) -> TaskOptions:
    """What was kept of the task of this path; the defaults where nothing was, or that of another task."""
    try:
        found = json.loads(text)
        if found["task"] == name:  # else the schedule has got another task since
            names = {field.name for field in fields(TaskOptions)}
            return TaskOptions(**{key: value for key, value in found.items() if key in names})
    except (ValueError, TypeError, KeyError):
        pass
    return TaskOptions(name)
