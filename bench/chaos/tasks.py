"""What the jobs of the chaos driver do: each writes a row when it does its work, by plain SQL on Django's connection.

The first argument of each is its key, by which the enqueuer that made it knows it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connection

from queue_app import Discard, JobContext, Snooze, task

#: More failures than a run can cause: only jobs that are meant to fail end as a failure.
_OFTEN: dict[str, Any] = {"takes_context": True, "max_attempts": 100, "backoff": 0.2}
_PLACE = os.environ.get("CHAOS_PLACE", "")

TABLES = """
CREATE TABLE chaos_effect (
    id bigserial PRIMARY KEY, key text NOT NULL, job_id uuid NOT NULL, attempt int NOT NULL, place text NOT NULL,
    pid int NOT NULL, at float8 NOT NULL
);
CREATE TABLE chaos_death (place text NOT NULL, pid int NOT NULL, at float8 NOT NULL)"""


def work(context: JobContext, key: str) -> None:
    """The effect: one row. Outside an atomic task it is committed when this returns."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO chaos_effect (key, job_id, attempt, place, pid, at) VALUES (%s, %s, %s, %s, %s, %s)",
            [key, context.job_id, context.attempt, _PLACE, os.getpid(), time.time()],
        )


def die() -> None:
    """Kill the own process, with all that runs beside this job; a row says which one and when."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO chaos_death (place, pid, at) VALUES (%s, %s, %s)", [_PLACE, os.getpid(), time.time()]
        )
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


@task(**_OFTEN)
def quick(context: JobContext, key: str, seconds: float = 0.0, ballast: str = "") -> None:
    """Work, in a few milliseconds."""
    time.sleep(seconds)
    work(context, key)


@task(**_OFTEN)
async def quick_async(context: JobContext, key: str, seconds: float = 0.0) -> None:
    """The same as a coroutine: waiting costs its child no slot's thread."""
    await asyncio.sleep(seconds)
    await sync_to_async(work)(context, key)


@task(**_OFTEN, queue_name="slow")
def slow(context: JobContext, key: str, before: float, after: float) -> str:
    """Work in the middle of a longer time."""
    time.sleep(before)
    work(context, key)
    time.sleep(after)
    return key


@task(**_OFTEN)
def flaky(context: JobContext, key: str, times: int) -> None:
    """Fail the first attempts, then work."""
    if context.attempt <= times:
        raise RuntimeError(f"attempt {context.attempt} fails on purpose")
    work(context, key)


@task(takes_context=True, max_attempts=2, backoff=0.2)
def fails(context: JobContext, key: str) -> None:
    """Fail always."""
    raise ValueError("fails on purpose")


@task(takes_context=True)
def discards(context: JobContext, key: str) -> None:
    """Give up at once."""
    raise Discard("given up on purpose")


@task(**_OFTEN)
def snoozes(context: JobContext, key: str, seconds: float) -> None:
    """Put itself off on the first attempt, then work."""
    if context.attempt == 1:
        raise Snooze(seconds, "later")
    work(context, key)


@task(**_OFTEN)
def kills(context: JobContext, key: str, times: int) -> None:
    """Kill the own process in the first attempts, then work."""
    if context.attempt <= times:
        die()
    work(context, key)


@task(**_OFTEN)
def poison(context: JobContext, key: str) -> None:
    """Kill the own process always: it must end in the dead letters, and nothing that ran beside it."""
    die()


@task(**_OFTEN, atomic=True)
def atomic_quick(context: JobContext, key: str, seconds: float) -> None:
    """Work, and linger in the transaction."""
    work(context, key)
    time.sleep(seconds)


@task(**_OFTEN, atomic=True)
def atomic_flaky(context: JobContext, key: str, times: int) -> None:
    """Work in every attempt, and fail in the first ones: only the last one's work may stay."""
    work(context, key)
    if context.attempt <= times:
        raise RuntimeError(f"attempt {context.attempt} fails on purpose")


@task(takes_context=True, max_attempts=2, backoff=0.2, atomic=True)
def atomic_fails(context: JobContext, key: str) -> None:
    """Work, and fail always: no work may stay."""
    work(context, key)
    raise ValueError("fails on purpose")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of job.

    Attributes:
        weight: how often it is enqueued, in proportion to the others.
        end: the state in which its jobs must end.
        atomic: whether its work is there exactly once if it succeeded and not at all if it did not.
        most: jobs of one call.
    """

    task: Any
    weight: float
    end: str = "succeeded"
    atomic: bool = False
    most: int = 60


KINDS: dict[str, Kind] = {
    "quick": Kind(quick, 52),
    "async": Kind(quick_async, 4),
    "delayed": Kind(quick, 8),
    "large": Kind(quick, 2),
    "slow": Kind(slow, 1, most=3),
    "flaky": Kind(flaky, 6),
    "fails": Kind(fails, 3, end="failed"),
    "discards": Kind(discards, 2, end="failed"),
    "snoozes": Kind(snoozes, 3),
    "kills": Kind(kills, 1, most=1),
    "poison": Kind(poison, 0.2, end="failed", most=1),
    "atomic": Kind(atomic_quick, 14, atomic=True),
    "atomic-flaky": Kind(atomic_flaky, 4, atomic=True),
    "atomic-fails": Kind(atomic_fails, 2, end="failed", atomic=True),
}

#: Dotted path of a task → what must become of its jobs.
BY_TASK: dict[str, Kind] = {kind.task.module_path: kind for kind in KINDS.values()}
