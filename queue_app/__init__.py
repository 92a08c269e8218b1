"""Background jobs for Django: as durable as the database, as fast as Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from queue_app.exceptions import Discard, Retry, Snooze
    from queue_app.tasks.context import JobContext
    from queue_app.tasks.task import Task, task

__all__ = ["Discard", "JobContext", "Retry", "Snooze", "Task", "task"]

_HOMES = {
    "task": "queue_app.tasks.task",
    "Task": "queue_app.tasks.task",
    "JobContext": "queue_app.tasks.context",
    "Retry": "queue_app.exceptions",
    "Snooze": "queue_app.exceptions",
    "Discard": "queue_app.exceptions",
}


def __getattr__(name: str) -> Any:
    # Late, so that importing the package (INSTALLED_APPS does) costs nothing.
    from importlib import import_module

    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
