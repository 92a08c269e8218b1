"""Atomic tasks that leave effects in the database, and do what such tasks must not do."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from pathlib import Path
from typing import Any

from django.db import IntegrityError, connection, transaction

from queue_app import JobContext, Snooze, task
from queue_app.exceptions import SoftTimeout
from queue_app.tasks_api.compat import ROOT, import_module
from tests.app.models import Effect
from tests.app.tasks import mark, noop

api_task = import_module(ROOT).task

#: What hooks saw, where a test runs them in its own process.
hooked: list[Any] = []


def leave(context: JobContext, label: str = "") -> None:
    Effect.objects.create(job=context.job_id, label=label)


@task(atomic=True, takes_context=True, backoff=0.05)
def effect(context: JobContext, seconds: float = 0.0) -> str:
    """Leave two effects, some time apart."""
    leave(context, "first")
    if seconds:
        time.sleep(seconds)
    leave(context, "second")
    context.progress(2, 2, "both")
    return "left"


@task(takes_context=True, max_attempts=1)
def plain_effect(context: JobContext, wrapped: bool = False) -> None:
    """Leave an effect, without a transaction; or say in other words that it cannot."""
    try:
        leave(context)
    except Exception as error:
        if wrapped:
            raise ValueError("no effect") from error
        raise


@task(atomic=True, takes_context=True, backoff=0.05)
def wait_for_file(context: JobContext, folder: str, start: str, release: str) -> None:
    """Leave an effect and the mark `start`, then wait until the file `release` is there."""
    leave(context)
    mark(folder, start)
    path = Path(folder) / release
    while not path.exists():
        time.sleep(0.005)


@task(atomic=True, takes_context=True, max_attempts=2, backoff=0.05)
def effect_then(context: JobContext, verb: str) -> Any:
    """Leave an effect, then do this, the first time."""
    leave(context, verb)
    if context.attempt == 1:
        return VERBS[verb]()
    return "second"


@task(atomic=True, takes_context=True, max_attempts=1)
def effect_and(context: JobContext, verb: str) -> Any:
    """Leave an effect, then do this."""
    leave(context, verb)
    return VERBS[verb]()


@task(atomic=True, takes_context=True, max_attempts=1, timeout=0.2)
def effect_too_long(context: JobContext, catch: bool) -> str:
    """Leave an effect and outlast the soft limit."""
    leave(context)
    try:
        for _ in range(3_000):
            time.sleep(0.01)
    except SoftTimeout:
        if not catch:
            raise
    return "cleaned up"


@task(atomic=True, takes_context=True)
def enqueue_inside(context: JobContext, fail: bool = False) -> list[str]:
    """Enqueue one job that stays, and one in a savepoint that does not; add hooks, one of which fails."""
    ids = [noop.enqueue("kept").id]
    try:
        with transaction.atomic():
            noop.enqueue("dropped")
            raise KeyError
    except KeyError:
        pass
    transaction.on_commit(lambda: hooked.append(("first", connection.in_atomic_block)))
    transaction.on_commit(_fail)
    transaction.on_commit(lambda: hooked.append(("last", context.job_id)))
    if fail:
        raise ValueError("on purpose")
    return ids


def _fail() -> None:
    raise RuntimeError("a hook on purpose")


def _raise() -> None:
    raise ValueError("on purpose")


def _snooze() -> None:
    raise Snooze(0.01)


def _swallow() -> None:
    """Go on after an error that has doomed the transaction."""
    try:
        with transaction.atomic(savepoint=False):
            raise IntegrityError("on purpose")
    except IntegrityError:
        pass


def _abort() -> None:
    """The same, where only the database knows."""
    with connection.cursor() as cursor, contextlib.suppress(Exception):
        cursor.execute("SELECT 1/0 FROM no_such_table")


def _sql(text: str) -> Any:
    def run() -> None:
        with connection.cursor() as cursor:
            cursor.execute(text)

    return run


def _commit_and_go_on() -> None:
    _sql("COMMIT")()
    _sql("BEGIN")()
    Effect.objects.create(job="after")


def _idle() -> None:
    """Be silent for longer than the server allows."""
    _sql("SET LOCAL idle_in_transaction_session_timeout = 50")()
    time.sleep(0.5)


VERBS: dict[str, Any] = {
    "raise": _raise,
    "snooze": _snooze,
    "swallow": _swallow,
    "abort": _abort,
    "set_rollback": lambda: transaction.set_rollback(True),
    "missing_table": _sql("SELECT 1 FROM no_such_table"),
    "search_path": _sql("SET LOCAL search_path = pg_catalog"),
    "close": lambda: connection.close(),
    "autocommit": lambda: transaction.set_autocommit(True),
    "commit": _sql("COMMIT"),
    "commit_and_go_on": _commit_and_go_on,
    "rollback": _sql("ROLLBACK"),
    "leave_open": lambda: transaction.atomic().__enter__(),
    "leave_open_and_close": lambda: (transaction.atomic().__enter__(), connection.close())[0],
    "object": object,
    "idle": _idle,
    "large": lambda: "x" * 2_000_000,
    "nothing": lambda: None,
}


@task(atomic=True, takes_context=True, max_attempts=1, timeout=0.2, hard_timeout=0.4)
def effect_for_ever(context: JobContext) -> None:
    """Leave an effect and never end."""
    leave(context)
    while True:
        with contextlib.suppress(SoftTimeout):
            time.sleep(0.01)


@api_task(takes_context=True)
def api_effect(context: Any, fail: bool) -> str:
    Effect.objects.create(job=context.task_result.id, label="api")
    if fail:
        raise ValueError("on purpose")
    return "left"


#: Of Django's own Tasks API. (Before Django 6.1 its decorator takes no options beyond the standard ones.)
api_effect = dataclasses.replace(api_effect, atomic=True)


@task(atomic=True, sensitive=["card"])
def pay_and_tell(card: str) -> None:
    """Succeed; a hook fails, and repeats the card."""

    def tell() -> None:
        raise RuntimeError(f"no mail about {card}")

    transaction.on_commit(tell)
