"""From a task's name to what runs: only what was declared as a task, never any function that a row may name."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from django.apps import apps

from queue_app.exceptions import UnknownTask
from queue_app.retry import RetryPolicy, policy_from

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


def accept(cls: type) -> None:
    """Let instances of `cls` be run as tasks."""
    if cls not in _classes:
        _classes.append(cls)


def resolve(name: str) -> Declared:
    """The task of this dotted path.

    Raises:
        UnknownTask: there is no such module or name, or it is not a task. The job then waits for a worker that
            knows it.
    """
    found = _known.get(name)
    if found is not None:
        return found
    module_path, _, attribute = name.rpartition(".")
    try:
        module = import_module(module_path)
    except ValueError:
        raise UnknownTask(f"{name!r} is not the dotted path of a task.") from None
    except ModuleNotFoundError as error:
        if error.name and (module_path == error.name or module_path.startswith(error.name + ".")):
            raise UnknownTask(f"No task {name!r} here: there is no module {error.name!r}.") from None
        raise UnknownTask(f"No task {name!r} here: importing {module_path!r} failed: {error}") from error
    except (Exception, SystemExit) as error:  # user code may raise anything; the job must wait, not be lost
        raise UnknownTask(f"No task {name!r} here: importing {module_path!r} failed: {error!r}") from error
    task = getattr(module, attribute, None)
    if task is None:
        raise UnknownTask(f"No task {name!r} here: the module has no {attribute!r}.")
    if not _is_task(task):
        raise UnknownTask(f"{name!r} is a {type(task).__name__}, not a task; decorate it with @task.")
    found = _known[name] = declare(name, task)
    return found


def look_up(name: str) -> Declared:
    """`resolve` for names that come from outside: they must not be able to run just any module of the Python path, so
    only code of the installed apps is imported.

    Raises:
        UnknownTask: there is no such task, or its module belongs to no installed app and has not been imported.
    """
    module = name.rpartition(".")[0]
    ours = any(module == app.name or module.startswith(f"{app.name}.") for app in apps.get_app_configs())
    if not ours and module not in sys.modules:
        raise UnknownTask(f"No task {name!r} here: its module is not part of an installed app.")
    return resolve(name)


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
