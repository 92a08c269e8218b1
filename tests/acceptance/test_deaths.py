"""P3, P4, P9: whoever is killed, and whenever, every job still ends, exactly one way, and the right one is blamed."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from bench.runtime.waiting import wait_until
from queue_app.dispatch import connection, workers
from queue_app.models import Attempt, DeadLetter, Job, Worker
from tests.app import tasks
from tests.support.marks import committed
from tests.support.whole_workers import (
    StartWorker,
    attempts,
    kill,
    labels,
    lines,
    pids,
    the_one,
    wait_for_end,
    wait_for_lines,
)

pytestmark = committed

#: A short lease, so that a take-over is quick; the least that is allowed.
SHORT: dict[str, Any] = {"LEASE": 1.0}


def start_waiting(folder: Path, name: str = "started") -> str:
    """A job that has started and runs until the file `release` is there."""
    job_id = tasks.wait_for_file.enqueue(str(folder), name, "release").id
    wait_for_lines(folder, name)
    return job_id


# a child


def test_jobs_of_a_killed_child_run_again(worker: StartWorker, tmp_path: Path) -> None:
    process = worker("--slots", "2")
    child = the_one(process)
    greedy = tasks.hog.enqueue(str(tmp_path), "hog", 150).id
    assert wait_for_end([greedy]) == ["succeeded"]
    ids = [start_waiting(tmp_path, "one"), start_waiting(tmp_path, "two")]
    kill(child)
    wait_until(
        lambda: len(lines(tmp_path, "one") + lines(tmp_path, "two")) == 3, 60, "the first of them again"
    )
    (tmp_path / "release").touch()
    assert wait_for_end(ids) == ["succeeded"] * 2
    for name in ("one", "two"):
        assert len(lines(tmp_path, name)) == 2
    for job_id in ids:
        assert attempts(job_id) == ["lost", "succeeded"]
        lost = Attempt.objects.get(job_id=job_id, number=1)
        peak = re.match(r"killed by SIGKILL, peak memory (\d+) MB, with 1 other job in it", lost.error)
        assert peak and 150 < int(peak[1]) < 600, lost.error
        assert lost.started_at is not None
        assert Job.objects.get(pk=job_id).deaths == 0, "either of the two may have been the cause"
    assert the_one(process) != child
    process.wait_for(f"(pid {child}) died: killed by SIGKILL")


def test_who_waited_behind_a_killer_is_not_to_blame(worker: StartWorker, tmp_path: Path) -> None:
    """They were claimed together, so their child had them in its hands when it died."""
    folder = str(tmp_path)
    before = [result.id for result in tasks.noop.enqueue_many([((), {})] * 150)]
    killer = tasks.die_by.enqueue(folder, "killer", int(signal.SIGSEGV)).id
    calls = [((folder, "after", n), {}) for n in range(40)]
    after = [result.id for result in tasks.label.enqueue_many(calls)]
    worker(settings={"LONG_JOB": 60.0}, environment={"PYTHONFAULTHANDLER": ""})
    assert set(wait_for_end([*before, killer, *after])) == {"succeeded"}
    assert attempts(killer) == ["lost", "succeeded"]
    assert Attempt.objects.get(state="lost").error.startswith("killed by SIGSEGV, peak memory ")
    assert Job.objects.filter(deaths__gt=0).count() == 1
    assert Attempt.objects.exclude(state="succeeded").count() == 1
    assert sorted(labels(tmp_path, "after"), key=int) == [str(n) for n in range(40)]


def test_a_job_that_keeps_killing_its_child_is_quarantined(worker: StartWorker, tmp_path: Path) -> None:
    process = worker("--processes", "2")
    killer = tasks.die_by.enqueue(str(tmp_path), "killer", times=99).id
    others = [result.id for result in tasks.noop.enqueue_many([((), {})] * 20)]
    assert wait_for_end([killer, *others]) == ["failed"] + ["succeeded"] * 20
    assert attempts(killer) == ["lost"] * 3
    letter = DeadLetter.objects.get()
    assert letter.reason == "poison"
    assert letter.error.startswith("killed by SIGKILL, peak memory ")
    assert len(lines(tmp_path, "killer")) == 3
    assert process.stop() == 0


def test_deaths_at_random_moments(worker: StartWorker, tmp_path: Path) -> None:
    """Every half dozen jobs some child is killed, whatever it does at that moment."""
    process = worker("--processes", "2", "--slots", "2", settings={"POISON_AFTER": 100})
    calls = [((str(tmp_path), "ran", n, 0.01), {}) for n in range(200)]
    ids = [result.id for result in tasks.label.enqueue_many(calls)]
    for milestone in range(20, 180, 25):
        wait_for_lines(tmp_path, "ran", milestone)
        for pid in pids(process)[:1]:
            kill(pid)
    assert Counter(wait_for_end(ids)) == {"succeeded": 200}
    assert set(labels(tmp_path, "ran")) == {str(n) for n in range(200)}
    assert Attempt.objects.filter(state="succeeded").count() == 200
    lost = Attempt.objects.filter(state="lost").count()
    assert Attempt.objects.count() == 200 + lost
    assert sum(Job.objects.values_list("deaths", flat=True)) <= lost, "those that died alone"
    assert not Job.objects.filter(suspect=True).exists()


# the keeper


def test_a_killed_keeper_is_replaced_and_costs_no_job(worker: StartWorker, tmp_path: Path) -> None:
    process = worker(settings=SHORT)
    keeper, child = the_one(process, "keeper"), the_one(process)
    job_id = start_waiting(tmp_path)
    kill(keeper)
    wait_until(lambda: pids(process, "keeper") not in ([], [keeper]), 10, "another keeper")
    beat = Worker.objects.get().heartbeat_at
    wait_until(lambda: Worker.objects.get().heartbeat_at > beat, 10, "its heartbeat")
    (tmp_path / "release").touch()
    assert wait_for_end([job_id]) == ["succeeded"]
    assert attempts(job_id) == ["succeeded"]
    assert the_one(process) == child
    assert process.stop() == 0


def test_a_child_that_dies_while_there_is_no_keeper_is_buried_by_the_next_one(
    worker: StartWorker, tmp_path: Path
) -> None:
    process = worker(settings=SHORT)
    keeper, child = the_one(process, "keeper"), the_one(process)
    job_id = start_waiting(tmp_path)
    os.kill(keeper, signal.SIGSTOP)  # the message about the death reaches only the pipe
    kill(child)
    wait_until(lambda: pids(process) not in ([], [child]), 10, "another child")
    kill(keeper)
    wait_for_lines(tmp_path, "started", 2)
    (tmp_path / "release").touch()
    assert wait_for_end([job_id]) == ["succeeded"]
    assert attempts(job_id) == ["lost", "succeeded"]
    assert Attempt.objects.get(job_id=job_id, number=1).error.startswith("killed by SIGKILL")


# the supervisor


def test_when_the_supervisor_is_killed_its_children_end_what_they_run(
    worker: StartWorker, tmp_path: Path
) -> None:
    process = worker("--processes", "2", settings=SHORT)
    family = psutil.Process(process.pid).children()
    job_id = start_waiting(tmp_path)
    kill(process.pid)
    process.wait()
    assert tasks.noop.enqueue() is not None
    (tmp_path / "release").touch()
    assert wait_for_end([job_id]) == ["succeeded"]
    assert attempts(job_id) == ["succeeded"]
    gone(family)
    assert Worker.objects.get().status == "stopped"


def test_a_stuck_job_of_a_killed_supervisor_ends_all_the_same(worker: StartWorker, tmp_path: Path) -> None:
    """Nobody is left to enforce its time limit but the keeper."""
    process = worker("--grace", "0.5", settings=SHORT)
    family = psutil.Process(process.pid).children()
    job_id = tasks.loop_forever.enqueue(str(tmp_path), "loop").id
    wait_for_lines(tmp_path, "loop")
    kill(process.pid)
    process.wait()
    worker(settings=SHORT)
    assert wait_for_end([job_id]) == ["succeeded"]
    gone(family)
    assert attempts(job_id) == ["lost", "succeeded"]


def gone(family: list[psutil.Process]) -> None:
    """Wait until all these have ended. (Orphans may stay zombies where nobody reaps them.)"""

    def left() -> list[int]:
        return [p.pid for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]

    wait_until(lambda: not left(), 20, lambda: f"the end of {left()}")


# the machine


def test_jobs_of_a_worker_that_lost_power_are_taken_over(worker: StartWorker, tmp_path: Path) -> None:
    first = worker("--slots", "2", settings=SHORT)
    running = start_waiting(tmp_path)
    first_id = Worker.objects.get().pk
    first.kill()
    waiting = tasks.noop.enqueue().id
    second = worker(settings=SHORT)
    wait_for_lines(tmp_path, "started", 2)
    (tmp_path / "release").touch()
    assert wait_for_end([running, waiting]) == ["succeeded"] * 2
    assert attempts(running) == ["lost", "succeeded"]
    lost = Attempt.objects.get(state="lost")
    assert (lost.error, lost.worker_id) == ("no heartbeat for 1 s", first_id)
    assert Worker.objects.get(pk=first_id).status in ("silent", "stopped")
    assert [w.id for w in workers.listed(connection.client())] != [str(first_id)]
    assert second.stop() == 0


def test_a_worker_given_up_for_dead_cannot_overwrite_its_successor(
    worker: StartWorker, tmp_path: Path
) -> None:
    """P4. Its machine was suspended for longer than the lease."""
    first = worker(settings=SHORT)
    job_id = start_waiting(tmp_path)
    os.killpg(first.pid, signal.SIGSTOP)
    second = worker(settings=SHORT)
    wait_for_lines(tmp_path, "started", 2)
    (tmp_path / "release").touch()
    assert wait_for_end([job_id]) == ["succeeded"]
    winner = Attempt.objects.get(job_id=job_id, number=2).worker_id
    os.killpg(first.pid, signal.SIGCONT)
    first.wait_for("does not count: the record expects another delivery")
    refused = Worker.objects.filter(refused=1).exclude(pk=winner)
    wait_until(refused.exists, 60, "its row counts what was refused")
    assert attempts(job_id) == ["lost", "succeeded"]
    assert Job.objects.get(pk=job_id).worker_id == winner
    assert wait_for_end([tasks.noop.enqueue().id for _ in range(5)]) == ["succeeded"] * 5
    assert (first.stop(), second.stop()) == (0, 0)
