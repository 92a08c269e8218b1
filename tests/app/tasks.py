"""Tasks that can meet every fate, so that tests of faults are short. Marks are files: they cross processes."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import time
from pathlib import Path
from typing import Any

from queue_app import Discard, JobContext, Retry, Snooze, task
from queue_app.exceptions import Cancelled


def mark(folder: str, name: str, label: object = "") -> None:
    """Append a line to the file `name`: O_APPEND makes one short write of many processes atomic."""
    fd = os.open(Path(folder) / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(fd, f"{os.getpid()} {time.time()!r} {label}\n".encode())
    os.close(fd)


@task
def noop(*args: Any, **kwargs: Any) -> None:
    """Nothing."""


@task
def echo(*args: Any, **kwargs: Any) -> list[Any]:
    """Return what it was given."""
    return [list(args), kwargs]


@task
def note(folder: str, name: str) -> None:
    """Leave a mark."""
    mark(folder, name)


@task
def label(folder: str, name: str, label: object, seconds: float = 0.0) -> None:
    """Leave a mark with a label, then take that long."""
    mark(folder, name, label)
    if seconds:
        time.sleep(seconds)


@task
def meet(folder: str, name: str, count: int) -> None:
    """Wait until `count` jobs are here at the same time."""
    mark(folder, name)
    while len((Path(folder) / name).read_text().splitlines()) < count:
        time.sleep(0.005)


@task
async def async_meet(folder: str, name: str, count: int) -> None:
    """Wait, asynchronously, until `count` jobs are here at the same time."""
    mark(folder, name)
    while len((Path(folder) / name).read_text().splitlines()) < count:
        await asyncio.sleep(0.005)


#: What `hog` keeps.
_kept: list[bytes] = []


@task
def hog(folder: str, name: str, megabytes: int) -> None:
    """Leave a mark, and never free this memory."""
    mark(folder, name)
    _kept.append(b"x" * (megabytes * 1_000_000))


@task(max_attempts=3, backoff=0.05)
def fail(message: str = "on purpose") -> None:
    """Fail every time."""
    raise ValueError(message)


@task(max_attempts=5, backoff=0.05)
def fail_times(folder: str, name: str, times: int) -> str:
    """Fail the first `times` attempts."""
    mark(folder, name)
    if len((Path(folder) / name).read_text().splitlines()) <= times:
        raise RuntimeError("not yet")
    return "at last"


@task(max_attempts=3)
def control(verb: str, after: float = 0.0) -> None:
    """Raise what decides the job's fate."""
    raise {"retry": Retry("asked", after=after), "discard": Discard("no use"), "snooze": Snooze(after)}[verb]


@task(takes_context=True)
def snooze_once(context: JobContext, after: float) -> int:
    """Put itself off on the first attempt."""
    if context.attempt == 1:
        raise Snooze(after, "later")
    return context.attempt


@task(max_attempts=3, backoff=0.05)
def wait_for_file(folder: str, start: str, release: str) -> None:
    """Leave the mark `start`, then wait until the file `release` is there."""
    mark(folder, start)
    path = Path(folder) / release
    while not path.exists():
        time.sleep(0.005)


@task(max_attempts=2, backoff=0.05)
def loop_forever(folder: str, name: str) -> None:
    """Never end, and swallow soft limits; return at once when it has been started before."""
    first = not (Path(folder) / name).exists()
    mark(folder, name)
    while first:
        try:
            time.sleep(0.01)
        except Exception:
            continue


@task(max_attempts=2, backoff=0.05)
def hold_the_lock(folder: str, name: str) -> None:
    """Stay in C code that never lets go of the interpreter's lock, the first time."""
    first = not (Path(folder) / name).exists()
    mark(folder, name)
    if first:
        sum(range(10**15))  # hours inside one call: no other thread runs, no signal is handled


@task
def die_by(folder: str, name: str, number: int = int(signal.SIGKILL), times: int = 1) -> str:
    """Kill the own process the first `times` times."""
    mark(folder, name)
    if len((Path(folder) / name).read_text().splitlines()) <= times:
        os.kill(os.getpid(), number)
        time.sleep(60)
    return "survived"


@task
def exit_with(code: int) -> None:
    """Leave through SystemExit."""
    raise SystemExit(code)


@task
def unserialisable() -> object:
    """Return what is not JSON."""
    return object()


@task(takes_context=True)
def report(context: JobContext, folder: str, release: str) -> str:
    """Tell progress, then wait for a file."""
    context.progress(1, 3, "a third")
    path = Path(folder) / release
    while not path.exists():
        time.sleep(0.005)
    context.progress(3, 3, "done")
    return context.job_id


@task
def enqueue_more(folder: str, name: str, count: int) -> None:
    """Enqueue notes."""
    note.enqueue_many([((folder, name), {}) for _ in range(count)])


@task
async def async_add(a: int, b: int, seconds: float = 0.0) -> int:
    """Add, asynchronously."""
    await asyncio.sleep(seconds)
    return a + b


@task(timeout=0.2, max_attempts=1)
def sleep_long(folder: str, name: str) -> str:
    """Outlast the soft limit; clean up when interrupted."""
    from queue_app.exceptions import SoftTimeout

    try:
        for _ in range(3_000):  # in small steps: a thread is interrupted between two, not within one
            time.sleep(0.01)
    except SoftTimeout:
        mark(folder, name)
        raise
    return "slept"


@task
def work_until_cancelled(folder: str, name: str) -> None:
    """Work, in steps, until it is interrupted; clean up then."""
    mark(folder, name, "begun")
    try:
        while True:
            time.sleep(0.01)
    finally:
        time.sleep(0.1)  # what follows an interruption is not interrupted
        mark(folder, name, "cleaned")


@task
async def async_work_until_cancelled(folder: str, name: str) -> None:
    """The same, asynchronously."""
    mark(folder, name, "begun")
    try:
        await asyncio.sleep(3_600)
    finally:
        await asyncio.sleep(0.1)
        mark(folder, name, "cleaned")


@task(takes_context=True)
def poll_cancelled(context: JobContext, folder: str, name: str) -> str:
    """Swallow the interruption, and ask instead."""
    mark(folder, name)
    while True:
        try:
            while not context.cancelled:
                time.sleep(0.01)
            return "heard of it"
        except BaseException:
            continue


@task(max_attempts=3, backoff=0.05)
def swallow(folder: str, name: str) -> None:
    """Never end, whatever is raised."""
    mark(folder, name, "begun")
    while True:
        try:
            time.sleep(0.01)
        except BaseException:
            continue


@task
def slow_query(folder: str, name: str, seconds: float) -> int:
    """Ask PostgreSQL something that takes that long."""
    from django.db import connection

    mark(folder, name)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_sleep(%s)", [seconds])
        return int(cursor.fetchone()[0])


@task(max_attempts=3, backoff=0.05)
def fail_when_cancelled(folder: str, name: str) -> None:
    """Fail in cleaning up."""
    mark(folder, name)
    try:
        while True:
            time.sleep(0.01)
    except Cancelled:
        raise RuntimeError("could not clean up") from None


@task
def leave_transaction_open() -> None:
    """Forget to end a transaction."""
    from django.db import transaction

    transaction.atomic().__enter__()


@task
def hold_for(folder: str, name: str, seconds: float) -> None:
    """Hold the interpreter's lock, again and again, for so long in all."""
    mark(folder, name)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(3_000_000))


@task
def vanish(folder: str, name: str, how: str) -> None:
    """End the own process without a word, the first time."""
    first = not (Path(folder) / name).exists()
    mark(folder, name)
    if first:
        if how == "exit":
            os._exit(3)
        ctypes.string_at(0)
