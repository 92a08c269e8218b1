"""From a task's name to what runs: only what was declared as a task, never any function that a row may name."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from django.apps import apps
from django.core.signals import setting_changed

from queue_app import conf
from queue_app.domain.retry import RetryPolicy, policy_from
from queue_app.exceptions import InvalidTaskDefinition, UnknownTask

#: Classes whose instances are tasks: ours, and those of the Tasks API once its backend is loaded.
_classes: list[Any] = []
_known: dict[str, Declared] = {}


@dataclass(frozen=True, slots=True)
class Declared:
    """A task as the worker sees it.

    Attributes:
        task: the object that the decorator made.
        func: the function itself.
        is_async: whether it is a coroutine function.
        timeout, hard_timeout: seconds, or None.
        policy: its retry policy, or None for that of the settings.
        atomic: whether its writes commit together with its success.
    """

    name: str
    task: Any
    func: Callable[..., Any]
    is_async: bool
    takes_context: bool
    timeout: float | None
    hard_timeout: float | None
    policy: RetryPolicy | None
    atomic: bool = False


def _is_task(value: object) -> bool:
    return isinstance(value, tuple(_classes))


def alias_of(task: Any) -> str:
    """Which kind a task is: the alias in TASKS of the backend that its jobs come through; empty for one of
    `queue_app.task`."""
    return getattr(task, "backend", "")


def backend_of(task: Any) -> Any | None:
    """The backend of the Tasks API that a task's jobs come through; None for a task of `queue_app.task`.

    Raises:
        Exception: what the Tasks API says if TASKS has no such backend, or it cannot be made.
    """
    return task.get_backend() if alias_of(task) else None


def runs_here(backend: Any | None) -> bool:
    """Whether the jobs of tasks with this backend are ours to run."""
    return backend is None or getattr(backend, "is_queue_app", False)


def accept(cls: type) -> None:
    """Let instances of `cls` be run as tasks."""
    if cls not in _classes:
        _classes.append(cls)


def known_task(name: str) -> Declared | None:
    """The task of this dotted path if this process has met it before. One look-up: workers ask for each job."""
    return _known.get(name)


def loaded_task(name: str) -> Declared | None:
    """The task of this dotted path if its module is imported already; nothing is imported for it."""
    found = _known.get(name)
    if found is None and _is_loaded(name.rpartition(".")[0]):
        try:
            return _find(name)
        except UnknownTask:
            return None
    return found


def look_up(name: str) -> Declared:
    """The task of this dotted path; its module is imported if need be. The name may come from a row, which must not be
    able to run just any module of the Python path: only what `may_import` allows is imported.

    Raises:
        UnknownTask: there is no such task here, or its module may not be imported. Its jobs wait for a worker that
            knows it.
    """
    found = _known.get(name)
    if found is not None:
        return found
    module_path = name.rpartition(".")[0]
    if not module_path:
        raise UnknownTask(f"{name!r} is not the dotted path of a task.")
    if module_path not in sys.modules and not may_import(module_path):
        raise UnknownTask(
            f"No task {name!r} here: its module is not part of an installed app. {_remedy(module_path)}"
        )
    try:
        import_module(module_path)
    except ModuleNotFoundError as error:
        if error.name and (module_path == error.name or module_path.startswith(error.name + ".")):
            raise UnknownTask(f"No task {name!r} here: there is no module {error.name!r}.") from None
        raise UnknownTask(f"No task {name!r} here: importing {module_path!r} failed: {error}") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # user code may raise anything; the job must wait, not be lost
        raise UnknownTask(f"No task {name!r} here: importing {module_path!r} failed: {error!r}") from error
    return _find(name)


def _find(name: str) -> Declared:
    """The task of this name in its module, which has been imported.

    Raises:
        UnknownTask: the module has none.
    """
    module_path, _, attribute = name.rpartition(".")
    task = getattr(sys.modules[module_path], attribute, None)
    if task is None:
        raise UnknownTask(f"No task {name!r} here: the module has no {attribute!r}.")
    if not _is_task(task):
        raise UnknownTask(f"{name!r} is a {type(task).__name__}, not a task; decorate it with @task.")
    found = _known[name] = declare(name, task)
    return found


def _is_loaded(module: str) -> bool:
    """Whether a module has been imported to its end: another thread may be about it."""
    found = sys.modules.get(module)
    return found is not None and not getattr(getattr(found, "__spec__", None), "_initializing", False)


@lru_cache(maxsize=1_000)
def may_import(module: str) -> bool:
    """Whether a module may be imported because a row names a task in it: it belongs to an installed app, or
    TASK_MODULES names it or a package that it is in."""
    names = [config.name for config in apps.get_app_configs()]
    return any(module == name or module.startswith(f"{name}.") for name in (*names, *conf.get().TASK_MODULES))


def may_know(name: str) -> bool:
    """Whether `look_up` could find this task, as far as that can be said without importing anything."""
    module = name.rpartition(".")[0]
    if _is_loaded(module):
        return loaded_task(name) is not None
    if not module or not may_import(module):
        return False
    # The first part that has not been imported: what is above it is known, so that to look for it runs no code.
    parts = module.split(".")
    paths = [".".join(parts[: n + 1]) for n in range(len(parts))]
    missing = next(path for path in paths if not _is_loaded(path))
    try:
        return find_spec(missing) is not None
    except (ImportError, ValueError):  # its parent is not a package; or another thread imports it
        return missing in sys.modules


def check_importable(name: str) -> None:
    """Called when a task is enqueued: whether workers with these settings will import its module.

    Raises:
        InvalidTaskDefinition: they will not; names the remedy.
    """
    module = name.rpartition(".")[0]
    if not may_import(module):
        raise InvalidTaskDefinition(
            f"{name!r} cannot be enqueued: its module is not part of an installed app, so workers would not import it."
            f" {_remedy(module)}"
        )


def _remedy(module: str) -> str:
    return f"Add its app to INSTALLED_APPS, or {module!r} to TASK_MODULES of QUEUE_APP."


def declare(name: str, task: Any) -> Declared:
    """What the worker needs of a task object."""
    return Declared(
        name=name,
        task=task,
        func=task.func,
        is_async=inspect.iscoroutinefunction(task.func),
        takes_context=task.takes_context,
        timeout=getattr(task, "timeout", None),
        hard_timeout=getattr(task, "hard_timeout", None),
        policy=policy_from(getattr(task, "backoff", None)),
        atomic=getattr(task, "atomic", False),
    )


def known() -> list[str]:
    """The names of the tasks that this process has met so far, sorted."""
    return sorted(_known)


def forget() -> None:
    """Look names up again (after code was reloaded, and between tests)."""
    _known.clear()
    may_import.cache_clear()


def _settings_changed(*, setting: str, **_: Any) -> None:
    if setting in ("INSTALLED_APPS", "QUEUE_APP"):
        may_import.cache_clear()


setting_changed.connect(_settings_changed, dispatch_uid="queue_app.tasks.registry")


def autodiscover() -> list[str]:
    """Import the `tasks` module of every installed app, so that children share their memory and imports.

    Returns:
        The names of all tasks found, sorted. Tasks in other modules are found when a job names them.
    """
    from django.utils.module_loading import module_has_submodule

    for config in apps.get_app_configs():
        if config.module is not None and module_has_submodule(config.module, "tasks"):
            module = import_module(f"{config.name}.tasks")
            for attribute, value in vars(module).items():
                if _is_task(value) and value.func.__module__ == module.__name__:
                    name = f"{module.__name__}.{attribute}"
                    _known.setdefault(name, declare(name, value))
    return sorted(_known)
