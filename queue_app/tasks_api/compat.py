"""The only place that knows the two homes of Django's Tasks API: `django.tasks` (6.0+) and the backport
`django_tasks`. With both installed, Django's own wins."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from django.core.exceptions import ImproperlyConfigured

ROOT = "django.tasks" if find_spec("django.tasks") else "django_tasks"

try:
    _root = import_module(ROOT)
except ImportError as error:
    raise ImproperlyConfigured(
        "queue_app.backend needs Django 6.0 or newer, or the package django-tasks (pip install django-tasks). Without"
        " either, declare tasks with queue_app.task."
    ) from error

_base = import_module(f"{ROOT}.base")
_exceptions = import_module(f"{ROOT}.exceptions")

Task: Any = _base.Task
TaskContext: Any = _base.TaskContext
TaskError: Any = _base.TaskError
TaskResult: Any = _base.TaskResult
TaskResultStatus: Any = _base.TaskResultStatus
BaseTaskBackend: Any = import_module(f"{ROOT}.backends.base").BaseTaskBackend
# The backport up to 0.12 has other names for two exceptions.
InvalidTask: Any = getattr(_exceptions, "InvalidTask", None) or _exceptions.InvalidTaskError
InvalidTaskBackend: Any = (
    getattr(_exceptions, "InvalidTaskBackend", None) or _exceptions.InvalidTaskBackendError
)
TaskResultDoesNotExist: Any = _exceptions.TaskResultDoesNotExist
task_backends: Any = _root.task_backends


@lru_cache(maxsize=1)
def signals() -> Any:
    """The module of the three signals; late, because it needs settings.

    They are sent once for each job. So each looks up the receivers of a sender once, and again after every connect and
    disconnect: Django's own switch for frequent signals, which its model signals have.
    """
    found = import_module(f"{ROOT}.signals")
    for signal in (found.task_enqueued, found.task_started, found.task_finished):
        signal.use_caching = True
        signal.sender_receivers_cache = {}  # senders are classes of backends, which are few and stay
    return found
