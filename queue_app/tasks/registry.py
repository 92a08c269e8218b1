"""From a task's name to the function that runs. Only declared tasks are found, not any function that a row may name."""

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
from django.utils.module_loading import module_has_submodule

from queue_app import conf
from queue_app.domain.retry import RetryPolicy, policy_from
from queue_app.exceptions import InvalidTaskDefinition, UnknownTask


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


def alias_of(task: Any) -> str:
    """The alias in TASKS of the backend that a task's jobs come through; empty for a task of `queue_app.task`."""
    return getattr(task, "backend", "")


def backend_of(task: Any) -> Any | None:
    """The backend of the Tasks API that a task's jobs come through; None for a task of `queue_app.task`.

    Raises:
        Exception: of the Tasks API, if TASKS has no such backend or the backend cannot be made.
    """
    return task.get_backend() if alias_of(task) else None


def runs_here(backend: Any | None) -> bool:
    """Whether the jobs of tasks with this backend are ours to run."""
    return backend is None or getattr(backend, "is_queue_app", False)


def _is_loaded(module: str) -> bool:
    """Whether a module is imported completely: another thread may be importing it."""
    found = sys.modules.get(module)
    return found is not None and not getattr(getattr(found, "__spec__", None), "_initializing", False)


@lru_cache(maxsize=1_000)
def may_import(module: str) -> bool:
    """Whether a module may be imported because a row names a task in it. It must belong to an installed app, or
    TASK_MODULES must name it or a package that it is in."""
    names = [config.name for config in apps.get_app_configs()]
    return any(module == name or module.startswith(f"{name}.") for name in (*names, *conf.get().TASK_MODULES))


def check_importable(name: str) -> None:
    """Check, when a task is enqueued, that workers with these settings will import its module.

    Raises:
        InvalidTaskDefinition: they will not; the message names the remedy.
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


class Registry:
    """The tasks that this process has met, by their dotted paths.

    Attributes:
        known_task: the task of this dotted path if this process has met it, else None. It is the dict's own look-up,
            since workers ask for each job.
    """

    __slots__ = ("_classes", "_tasks", "known_task")

    def __init__(self) -> None:
        self._classes: tuple[type, ...] = ()
        self._tasks: dict[str, Declared] = {}
        self.known_task: Callable[[str], Declared | None] = self._tasks.get

    def accept(self, cls: type) -> None:
        """Let instances of `cls` be run as tasks: our own class, and the Tasks API's once its backend is loaded."""
        if cls not in self._classes:
            self._classes += (cls,)

    def loaded_task(self, name: str) -> Declared | None:
        """The task of this dotted path, if its module is imported already. Imports nothing."""
        found = self._tasks.get(name)
        if found is None and _is_loaded(name.rpartition(".")[0]):
            try:
                return self._find(name)
            except UnknownTask:
                return None
        return found

    def look_up(self, name: str) -> Declared:
        """The task of this dotted path; imports its module if need be.

        The name may come from a row. Only modules that `may_import` allows are imported, so that a row cannot make a
        worker import any module of the Python path.

        Raises:
            UnknownTask: there is no such task here, or its module may not be imported. Its jobs wait for a worker that
                knows it.
        """
        found = self._tasks.get(name)
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
        except BaseException as error:  # the module may raise anything; the job must wait, and not be lost
            raise UnknownTask(
                f"No task {name!r} here: importing {module_path!r} failed: {error!r}"
            ) from error
        return self._find(name)

    def may_know(self, name: str) -> bool:
        """Whether `look_up` could find this task, as far as that can be said without importing anything."""
        module = name.rpartition(".")[0]
        if _is_loaded(module):
            return self.loaded_task(name) is not None
        if not module or not may_import(module):
            return False
        # The first part that is not imported yet: its parents are, so looking for it runs no code.
        parts = module.split(".")
        paths = [".".join(parts[: n + 1]) for n in range(len(parts))]
        missing = next(path for path in paths if not _is_loaded(path))
        try:
            return find_spec(missing) is not None
        except (ImportError, ValueError):  # its parent is no package, or another thread is importing it
            return missing in sys.modules

    def autodiscover(self) -> list[str]:
        """Import the `tasks` module of every installed app, so that children share their memory and imports.

        Returns:
            The names of all tasks found, sorted. Tasks in other modules are found when a job names them.
        """
        for config in apps.get_app_configs():
            if config.module is not None and module_has_submodule(config.module, "tasks"):
                module = import_module(f"{config.name}.tasks")
                for attribute, value in vars(module).items():
                    if self._is_task(value) and value.func.__module__ == module.__name__:
                        name = f"{module.__name__}.{attribute}"
                        self._tasks.setdefault(name, declare(name, value))
        return self.known()

    def known(self) -> list[str]:
        """The names of the tasks that this process has met so far, sorted."""
        return sorted(self._tasks)

    def reset(self) -> None:
        """Look names up again: after code was reloaded, and between tests."""
        self._tasks.clear()
        may_import.cache_clear()

    def _find(self, name: str) -> Declared:
        """The task of this name in its module, which has been imported.

        Raises:
            UnknownTask: the module has none.
        """
        module_path, _, attribute = name.rpartition(".")
        task = getattr(sys.modules[module_path], attribute, None)
        if task is None:
            raise UnknownTask(f"No task {name!r} here: the module has no {attribute!r}.")
        if not self._is_task(task):
            raise UnknownTask(f"{name!r} is a {type(task).__name__}, not a task; decorate it with @task.")
        found = self._tasks[name] = declare(name, task)
        return found

    def _is_task(self, value: object) -> bool:
        return isinstance(value, self._classes)


_registry = Registry()
accept = _registry.accept
known_task = _registry.known_task
loaded_task = _registry.loaded_task
look_up = _registry.look_up
may_know = _registry.may_know
autodiscover = _registry.autodiscover
known = _registry.known
reset = _registry.reset


def _settings_changed(*, setting: str, **_: Any) -> None:
    if setting in ("INSTALLED_APPS", "QUEUE_APP"):
        may_import.cache_clear()


setting_changed.connect(_settings_changed, dispatch_uid="queue_app.tasks.registry")
