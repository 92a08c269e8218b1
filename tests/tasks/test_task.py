"""`@task`: a mistake is reported where the task is defined; and how workers find tasks by name."""

from __future__ import annotations

import asyncio
import importlib
import sys
import textwrap
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from queue_app import Task, task
from queue_app.exceptions import InvalidOption, InvalidTaskDefinition, QueueAppError, UnknownTask
from queue_app.tasks import registry
from tests.app import tasks


def plain(a: int = 1) -> int:
    return a


def takes(context: Any, a: int = 1) -> int:
    return a


async def coroutine(a: int) -> int:
    await asyncio.sleep(0)
    return a + 1


class Holder:
    def method(self) -> None: ...

    @staticmethod
    def static() -> None: ...


# declaring


def test_a_task_knows_its_name_and_options() -> None:
    declared = task(queue_name="mail", priority="high", max_attempts=5, timeout=30)(plain)
    assert isinstance(declared, Task)
    assert (declared.name, declared.module_path) == ("plain", f"{__name__}.plain")
    assert (declared.queue_name, declared.priority) == ("mail", 50)
    assert (declared.max_attempts, declared.timeout, declared.hard_timeout) == (5, 30, None)
    assert task(plain).queue_name == "default"


def test_a_task_can_be_called_here_and_now() -> None:
    assert task(plain).call(3) == 3
    assert task(coroutine).call(a=3) == 4


def test_using_makes_a_copy() -> None:
    first = task(queue_name="mail", timeout=5)(plain)
    at = datetime(2030, 1, 1, tzinfo=UTC)
    second = first.using(queue_name="bulk", priority="low", run_after=at, max_attempts=2)
    assert (second.queue_name, second.priority, second.run_after) == ("bulk", -50, at)
    assert (second.max_attempts, second.timeout, second.func) == (2, 5, plain)
    assert first == task(queue_name="mail", timeout=5)(plain)
    assert first.using() == first
    delayed = first.using(run_after=timedelta(hours=1)).run_after
    assert delayed is not None and delayed.tzinfo is UTC


def local() -> Any:
    def inner() -> None: ...

    return inner


@pytest.mark.parametrize(
    "func,said",
    [
        (local(), "'local.<locals>.inner' cannot be a task"),
        (lambda: None, "<lambda>' cannot be a task"),
        (Holder.method, "'Holder.method' cannot be a task"),
        (Holder.static, "'Holder.static' cannot be a task"),
        (Holder(), "must be a function at the top level of a module"),
        (len, "'len' cannot be a task"),
        (5, "must be a function"),
    ],
)
def test_what_cannot_be_a_task(func: Any, said: str) -> None:
    with pytest.raises(InvalidTaskDefinition, match=said):
        Task(func=func)


def test_a_function_of_main_cannot_be_found_by_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "__module__", "__main__")
    with pytest.raises(InvalidTaskDefinition, match="defined in __main__, where workers cannot find it"):
        task(plain)


def test_a_context_needs_its_argument() -> None:
    assert task(takes_context=True)(takes).takes_context
    with pytest.raises(InvalidTaskDefinition, match="first argument must be named 'context'"):
        task(takes_context=True)(plain)


@pytest.mark.parametrize(
    "options,said",
    [
        ({"queue": "mail"}, "@task has no option 'queue'. Did you mean 'queue_name'?"),
        (
            {"retries": 3},
            "@task has no option 'retries'. It takes queue_name, priority, takes_context, max_attempts",
        ),
        ({"run_after": 5}, "@task has no option 'run_after'."),
        ({"queue_name": "a b"}, "queue_name is 'a b'."),
        ({"priority": 101}, "priority is 101;"),
        ({"max_attempts": 0}, "max_attempts is 0;"),
        ({"timeout": -1}, "timeout is -1;"),
        ({"backoff": "soon"}, "backoff must be seconds"),
        ({"atomic": "yes"}, "atomic is 'yes'; use True or False"),
    ],
)
def test_a_wrong_option_is_answered(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        task(**options)(plain)
    assert said in str(caught.value)


def test_an_atomic_task_is_a_plain_function() -> None:
    assert task(atomic=True)(plain).atomic and not task(plain).atomic
    assert registry.declare("some", task(atomic=True)(plain)).atomic
    with pytest.raises(InvalidOption, match="'coroutine' is atomic=True and a coroutine function"):
        task(atomic=True)(coroutine)


def test_a_wrong_option_of_a_call_is_answered() -> None:
    with pytest.raises(InvalidOption, match="priority is 'urgent'"):
        task(plain).using(priority="urgent")
    with pytest.raises(InvalidOption, match="has no time zone"):
        task(plain).using(run_after=datetime(2030, 1, 1))


def test_a_class_says_its_message_by_itself() -> None:
    assert str(UnknownTask()) == "No task of this name is known here."
    assert str(UnknownTask("other words")) == "other words"
    assert isinstance(UnknownTask(), QueueAppError | LookupError)


# finding


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[Any]:
    """A function that writes a module for workers to find: outside of all apps, but in TASK_MODULES."""
    monkeypatch.syspath_prepend(tmp_path)
    made: list[str] = []

    def write(name: str, source: str) -> None:
        path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(source))
        importlib.invalidate_caches()
        made.append(name.removesuffix(".__init__"))
        settings.QUEUE_APP = settings.QUEUE_APP | {"TASK_MODULES": made}

    yield write
    for name in made:
        sys.modules.pop(name, None)
    registry.reset()


def test_a_declared_task_is_found_by_its_path() -> None:
    found = registry.look_up("tests.app.tasks.fail")
    assert found.task is tasks.fail
    assert found.func is tasks.fail.func
    assert (found.is_async, found.takes_context) == (False, False)
    assert found.policy is not None and found.policy.seconds(1) == 0.05
    assert registry.look_up("tests.app.tasks.async_add").is_async
    assert registry.look_up("tests.app.tasks.report").takes_context
    assert registry.look_up("tests.app.tasks.sleep_long").timeout == 0.2


@pytest.mark.parametrize(
    "name,said",
    [
        ("nowhere.at.all", "is not part of an installed app"),
        ("tests.app.nowhere.task", "there is no module 'tests.app.nowhere'"),
        ("tests.app.tasks.gone", "the module has no 'gone'"),
        ("tests.app.tasks.mark", "is a function, not a task; decorate it with @task"),
        ("os.system", "is a builtin_function_or_method, not a task"),
        ("tests.app.tasks.os", "is a module, not a task"),
        ("tests.app.tasks", "is a module, not a task"),
        ("noop", "is not the dotted path of a task"),
        ("", "is not the dotted path of a task"),
        (".tasks.noop", "No task '.tasks.noop' here"),
        ("tests..tasks.noop", "No task 'tests..tasks.noop' here"),
    ],
)
def test_what_was_not_declared_is_unknown_and_says_why(name: str, said: str) -> None:
    with pytest.raises(UnknownTask) as caught:
        registry.look_up(name)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_module_that_breaks_makes_its_tasks_unknown_not_failed(module: Any) -> None:
    module("breaks_at_import", "raise RuntimeError('no licence')")
    module("needs_a_package", "import package_that_is_not_there")
    module("leaves", "raise SystemExit(3)")
    module("gives_up", "class GiveUp(BaseException): ...\nraise GiveUp('for good')")
    for name, said in (
        ("breaks_at_import", "RuntimeError('no licence')"),
        ("needs_a_package", "package_that_is_not_there"),
        ("leaves", "SystemExit(3)"),
        ("gives_up", "GiveUp('for good')"),
    ):
        with pytest.raises(UnknownTask, match=r"importing .* failed") as caught:
            registry.look_up(f"{name}.task")
        assert said in str(caught.value)


TASK = "from queue_app import task\n@task\ndef job(): ...\n"


def test_only_modules_of_installed_apps_and_those_named_are_imported(module: Any, settings: Any) -> None:
    module("shop", TASK)
    module("shops", TASK)
    settings.QUEUE_APP = settings.QUEUE_APP | {"TASK_MODULES": ["shop"]}
    assert registry.look_up("shop.job").name == "shop.job"
    with pytest.raises(UnknownTask) as caught:
        registry.look_up("shops.job")
    assert str(caught.value) == (
        "No task 'shops.job' here: its module is not part of an installed app. Add its app to INSTALLED_APPS, or"
        " 'shops' to TASK_MODULES of QUEUE_APP."
    )
    assert "shops" not in sys.modules
    settings.QUEUE_APP = settings.QUEUE_APP | {"TASK_MODULES": ["shop", "shops"]}
    assert registry.look_up("shops.job").name == "shops.job"


def test_what_may_be_known_is_said_without_importing_anything(module: Any) -> None:
    module("market.__init__", "raise SystemExit('imported')")
    module("market.tasks", TASK)
    module("stall.__init__", "")
    module("stall.tasks", TASK)
    module("stall.broken", "raise SystemExit('imported')")
    for name, perhaps in {
        "tests.app.tasks.noop": True,
        "tests.app.tasks.gone": False,
        "tests.app.tasks.mark": False,
        "tests.app.nowhere.job": False,
        "tests.app.tasks.deeper.job": False,
        "antigravity.fly": False,
        "noop": False,
        "": False,
        "market.nowhere.job": True,  # who knows, before the package is imported?
        "stall.tasks.job": True,
        "stall.broken.job": True,
    }.items():
        assert registry.may_know(name) is perhaps, name
        assert (registry.loaded_task(name) is not None) is (name == "tests.app.tasks.noop"), name
    assert not sys.modules.keys() & {"market", "stall", "antigravity"}
    assert registry.look_up("stall.tasks.job") is registry.loaded_task("stall.tasks.job")
    assert registry.may_know("stall.tasks.job") and registry.may_know("stall.broken.job")
    assert not registry.may_know("stall.tasks.other") and not registry.may_know("stall.nowhere.job")


def test_a_module_that_is_being_imported_is_not_asked_yet(module: Any) -> None:
    """By another thread; it has no task yet, but it will have."""
    module("slow", f"import threading\nbegun, go = threading.Event(), threading.Event()\n{TASK}")
    source = "import slow\nslow.begun.set()\nslow.go.wait(30)\n" + TASK
    module("slower", source)
    slow = importlib.import_module("slow")
    thread = threading.Thread(target=registry.look_up, args=["slower.job"])
    thread.start()
    assert slow.begun.wait(30)
    assert registry.loaded_task("slower.job") is None
    assert registry.may_know("slower.job") is True
    slow.go.set()
    thread.join()
    assert registry.loaded_task("slower.job") is not None


def test_what_no_worker_would_import_is_not_enqueued() -> None:
    def plain() -> None: ...

    plain.__module__, plain.__qualname__ = "scripts.nightly", "plain"
    with pytest.raises(InvalidTaskDefinition) as caught:
        task(plain).enqueue()
    assert str(caught.value) == (
        "'scripts.nightly.plain' cannot be enqueued: its module is not part of an installed app, so workers would not"
        " import it. Add its app to INSTALLED_APPS, or 'scripts.nightly' to TASK_MODULES of QUEUE_APP."
    )


def test_code_that_was_reloaded_is_looked_up_again(module: Any) -> None:
    module("reloaded", "from queue_app import task\n@task(timeout=1)\ndef job(): ...")
    assert registry.look_up("reloaded.job").timeout == 1
    sys.modules.pop("reloaded")
    module("reloaded", "from queue_app import task\n@task(timeout=2, queue_name='other')\ndef job(): ...\n#")
    assert registry.look_up("reloaded.job").timeout == 1
    registry.reset()
    assert registry.look_up("reloaded.job").timeout == 2


def test_the_tasks_of_installed_apps_are_discovered() -> None:
    names = registry.autodiscover()
    assert {"tests.app.tasks.noop", "tests.app.tasks.async_add"} <= set(names)
    assert names == sorted(names)
    assert "tests.app.tasks.task" not in names and "tests.app.tasks.mark" not in names
