"""Tasks declared through Django's own Tasks API."""

from __future__ import annotations

from typing import Any

from queue_app import Discard, Retry, Snooze
from queue_app.tasks_api.compat import ROOT, import_module

task = import_module(ROOT).task

#: What tasks saw, where a test runs them in its own process.
seen: list[Any] = []


class Trouble(Exception):
    """An exception of the project's own."""


@task()
def noop(*args: Any, **kwargs: Any) -> None:
    """Nothing."""


@task(priority=10, queue_name="mail")
def echo(*args: Any, **kwargs: Any) -> list[Any]:
    """Return what it was given, and note it."""
    seen.append((args, kwargs))
    return [list(args), kwargs]


@task()
def fail(message: str = "on purpose") -> None:
    """Fail every time."""
    raise Trouble(message)


@task(sensitive=["card"])
def decline(card: str) -> None:
    """Fail, and repeat a sensitive argument in the error."""
    raise Trouble(f"card {card} declined")


@task()
async def add(a: int, b: int) -> int:
    """Add, asynchronously."""
    return a + b


@task(takes_context=True)
def inspect(context: Any, fail_until: int = 0) -> int:
    """Note what the context says, and what everybody else sees meanwhile; fail the first attempts."""
    own = context.task_result
    now = [
        (
            r.id,
            r.task,
            r.status,
            list(r.worker_ids),
            len(r.errors),
            r.started_at,
            r.last_attempted_at,
            r.finished_at,
        )
        for r in (own, inspect.get_result(own.id))
    ]  # as values, because the worker goes on writing to the result that it sends
    seen.append((context.attempt, *now))
    if context.attempt <= fail_until:
        raise Trouble(f"attempt {context.attempt}")
    return context.attempt


@task(takes_context=True)
async def inspect_async(context: Any) -> int:
    """Note what the context says, asynchronously."""
    seen.append(context.task_result)
    return context.attempt


@task(takes_context=True)
def keep_context(context: Any) -> None:
    """Keep the context itself, and use what it has beyond the standard's."""
    seen.append(context)
    context.progress(1, 2, "half")


@task(takes_context=True)
async def keep_context_async(context: Any) -> None:
    """The same, asynchronously."""
    seen.append(context)
    context.progress(1, 2, "half")


@task()
def give(kind: str) -> Any:
    """Return, raise or leave in an unusual way."""
    verbs = {
        "retry": Retry("again", after=0),
        "snooze": Snooze(0),
        "discard": Discard("no use"),
        "exit": SystemExit(3),
    }
    if kind in verbs:
        raise verbs[kind]
    return {"object": object(), "tuple": (1, (2,)), "bytes": b"x", "none": None, "nul": "a\x00"}[kind]


@task()
def leave_transaction_open() -> None:
    """Forget to end a transaction."""
    from django.db import transaction

    transaction.atomic().__enter__()


def plain() -> None:
    """A function that is no task."""
