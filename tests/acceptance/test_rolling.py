"""P3 while code is deployed and time is short: rolling restarts, a container's stop, jobs of many leases."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench.runtime.waiting import wait_until
from queue_app.models import Attempt, DeadLetter, Job, Worker
from tests.app import tasks
from tests.support.marks import committed, on_sqlite_alone
from tests.support.whole_workers import (
    StartWorker,
    attempts,
    labels,
    lines,
    pids,
    the_one,
    wait_for_end,
    wait_for_lines,
)

pytestmark = committed

SHORT: dict[str, Any] = {"LEASE": 1.0}


def test_a_rolling_restart_of_four_workers_under_load(worker: StartWorker, tmp_path: Path) -> None:
    """Each worker has its successor before it is told to stop: nothing is lost, nothing runs twice, and jobs end all
    the time."""
    old = [worker("--slots", "2") for _ in range(4)]
    stop = threading.Event()
    ids: list[str] = []

    def load() -> None:
        from django.db import connections

        while not stop.is_set():
            first = len(ids)
            calls = [((str(tmp_path), "ran", n, 0.005), {}) for n in range(first, first + 20)]
            ids.extend(result.id for result in tasks.label.enqueue_many(calls))
            stop.wait(0.1)
        connections.close_all()

    enqueuer = threading.Thread(target=load)
    enqueuer.start()
    try:
        wait_for_lines(tmp_path, "ran", 50)
        for process in old:
            worker("--slots", "2")
            ran = len(lines(tmp_path, "ran"))
            process.signal(signal.SIGTERM)
            wait_for_lines(tmp_path, "ran", ran + 20)  # others go on while it ends
            assert process.wait() == 0
    finally:
        stop.set()
        enqueuer.join()
    assert Counter(wait_for_end(ids)) == {"succeeded": len(ids)}
    assert Counter(labels(tmp_path, "ran")) == {str(n): 1 for n in range(len(ids))}
    assert Attempt.objects.count() == len(ids)


@on_sqlite_alone
def test_a_container_that_is_killed_before_the_grace_is_over(worker: StartWorker, tmp_path: Path) -> None:
    """TERM, and SIGKILL to everything before the worker's own grace has passed: the job is taken over."""
    first = worker("--grace", "60", settings=SHORT)
    running = tasks.wait_for_file.enqueue(str(tmp_path), "started", "release").id
    wait_for_lines(tmp_path, "started")
    waiting = [tasks.noop.enqueue().id for _ in range(3)]
    first.signal(signal.SIGTERM)
    first.wait_for("stopping: running jobs get up to 60 s")
    first.kill()
    worker(settings=SHORT)
    wait_for_lines(tmp_path, "started", 2)
    (tmp_path / "release").touch()
    assert wait_for_end([running, *waiting]) == ["succeeded"] * 4
    assert attempts(running) == ["lost", "succeeded"]
    assert Attempt.objects.count() == 5


@on_sqlite_alone
def test_a_grace_shorter_than_the_containers_requeues_in_time(worker: StartWorker, tmp_path: Path) -> None:
    """`docker stop` waits for 10 s: with a grace below that nothing has to be taken over, nor is to blame."""
    process = worker("--grace", "0.5")
    job_id = tasks.wait_for_file.enqueue(str(tmp_path), "started", "release").id
    wait_for_lines(tmp_path, "started")
    began = time.monotonic()
    assert process.stop(timeout=10) == 0
    assert time.monotonic() - began < 10
    job = Job.objects.get(pk=job_id)
    assert (job.state, job.deaths, job.failures) == ("queued", 0, 0)


@on_sqlite_alone
def test_a_job_of_many_leases_keeps_its_own(worker: StartWorker, tmp_path: Path, settings: Any) -> None:
    """Its keeper beats for it, also while the job holds the interpreter's lock; the other worker's reaper looks on."""
    settings.QUEUE_APP = settings.QUEUE_APP | SHORT
    worker(settings=SHORT)
    first = Worker.objects.get()
    job_id = tasks.wait_for_file.enqueue(str(tmp_path), "started", "release").id
    wait_for_lines(tmp_path, "started")
    worker(settings=SHORT)
    held = tasks.hold_for.enqueue(str(tmp_path), "held", 2.5).id
    assert wait_for_end([held]) == ["succeeded"]
    assert Job.objects.get(pk=job_id).state == "running"
    wait_until(lambda: Worker.objects.get(pk=first.pk).status == "alive", 30, "busy for long is not stuck")
    (tmp_path / "release").touch()
    assert wait_for_end([job_id]) == ["succeeded"]
    began, ended = Attempt.objects.values_list("started_at", "finished_at").get(job_id=job_id)
    assert (ended - began).total_seconds() > 2, "it was no longer than two leases"  # type: ignore[operator]
    assert attempts(job_id) == attempts(held) == ["succeeded"]
    assert len(lines(tmp_path, "started")) == 1


@on_sqlite_alone
@pytest.mark.parametrize(
    ("how", "cause"), [("exit", "exit code 3, peak memory "), ("segfault", "killed by SIGSEGV, peak memory ")]
)
def test_a_child_that_is_suddenly_gone(worker: StartWorker, tmp_path: Path, how: str, cause: str) -> None:
    """Its supervisor knows at once, and says why: the job runs again within a second or so, not after a lease."""
    process = worker(environment={"PYTHONFAULTHANDLER": ""})
    child = the_one(process)
    job_id = tasks.vanish.enqueue(str(tmp_path), "ran", how).id
    assert wait_for_end([job_id]) == ["succeeded"]
    lost = Attempt.objects.get(job_id=job_id, number=1)
    assert lost.state == "lost" and lost.error.startswith(cause) and lost.error.endswith(" MB")
    assert lost.error_class == "queue_app.exceptions.ProcessDied"
    first, second = lines(tmp_path, "ran")
    assert float(second[1]) - float(first[1]) < 10, "it waited for the lease"
    assert int(first[0]) == child
    assert the_one(process) != child


@on_sqlite_alone
def test_jobs_of_a_killed_child_run_again_within_a_second(worker: StartWorker, tmp_path: Path) -> None:
    """The best of three, as the machine may be busy with other things."""
    worker("--processes", "2")
    waits = []
    for n in range(3):
        job_id = tasks.vanish.enqueue(str(tmp_path), f"ran-{n}", "exit").id
        assert wait_for_end([job_id]) == ["succeeded"]
        first, second = lines(tmp_path, f"ran-{n}")
        waits.append(float(second[1]) - float(first[1]))
    assert min(waits) < 1, waits


@on_sqlite_alone
def test_four_sqlite_writers_lose_nothing(worker: StartWorker, tmp_path: Path) -> None:
    """Four children that record and four enqueuers that insert: "database is locked" is waited for or repeated."""
    process = worker("--processes", "4")
    ids: list[str] = []

    def enqueue(first: int) -> None:
        from django.db import connections

        for n in range(first, first + 25):
            ids.append(tasks.label.enqueue(str(tmp_path), "ran", n).id)
        connections.close_all()

    threads = [threading.Thread(target=enqueue, args=(100 * k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 100
    assert Counter(wait_for_end(ids)) == {"succeeded": 100}
    assert Counter(labels(tmp_path, "ran")) == {str(100 * k + n): 1 for k in range(4) for n in range(25)}
    assert len(pids(process)) == 4
    assert not DeadLetter.objects.exists()
    assert process.stop() == 0
