"""What a task says of its jobs, as text that is kept with its schedules: a leader must import no module to know it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields


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


def dump_options(options: TaskOptions) -> str:
    """The options as text to keep."""
    return json.dumps(asdict(options))


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
