"""What the tests of whole workers share: their processes, the marks that tasks leave, and the ends of jobs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil

from bench.runtime.waiting import wait_until
from bench.runtime.workers import WorkerProcess
from queue_app.domain.states import FINAL
from queue_app.models import Attempt, Job

#: The fixture `worker`: starts a real `manage.py runworker`.
StartWorker = Callable[..., WorkerProcess]


def processes(worker: WorkerProcess, word: str) -> list[psutil.Process]:
    """The living processes of a worker whose title contains `word` ("child", "keeper"), oldest first."""
    found = []
    for process in psutil.Process(worker.pid).children():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and f"queue_app {word}" in " ".join(
                process.cmdline()
            ):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return sorted(found, key=lambda process: (process.create_time(), process.pid))


def pids(worker: WorkerProcess, word: str = "child") -> list[int]:
    """Their process ids."""
    return [process.pid for process in processes(worker, word)]


def the_one(worker: WorkerProcess, word: str = "child") -> int:
    """The process id of the only such process, as soon as there is one."""
    return wait_until(lambda: [*pids(worker, word), 0][0], 30, f"a process with the title {word!r}")


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def lines(folder: Path, name: str) -> list[list[str]]:
    """What tasks have written into a file: the words of each line, in order."""
    path = folder / name
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def labels(folder: Path, name: str) -> list[str]:
    """The labels that `tests.app.tasks.label` has left, in order."""
    return [line[2] for line in lines(folder, name)]


def wait_for_lines(folder: Path, name: str, count: int = 1, timeout: float = 60.0) -> None:
    """Wait until tasks have written `count` lines into a file."""
    wait_until(
        lambda: len(lines(folder, name)) >= count,
        timeout,
        lambda: f"{count} lines in {name!r}, there are {len(lines(folder, name))}",
    )


def wait_for_end(ids: Iterable[str], timeout: float = 60.0) -> list[str]:
    """Wait until these jobs are final, and return their states in the order of the ids."""
    wanted = list(ids)

    def left() -> int:
        return Job.objects.filter(pk__in=wanted).exclude(state__in=sorted(FINAL)).count()

    wait_until(
        lambda: left() == 0,
        timeout,
        lambda: f"the end of {left()} of {len(wanted)} jobs, such as {_unfinished(wanted)}",
    )
    found = {str(pk): state for pk, state in Job.objects.filter(pk__in=wanted).values_list("pk", "state")}
    return [found[job_id] for job_id in wanted]


def _unfinished(ids: list[str]) -> list[Any]:
    rows = Job.objects.filter(pk__in=ids).exclude(state__in=sorted(FINAL))
    return list(rows.values("pk", "task", "state", "attempt", "run_after", "worker_id")[:3])


def attempts(job_id: str) -> list[str]:
    """How the attempts of a job ended, in order."""
    return list(Attempt.objects.filter(job_id=job_id).order_by("number").values_list("state", flat=True))
