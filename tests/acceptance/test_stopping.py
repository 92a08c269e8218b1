"""Stopping and replacing on request: TERM, a second TERM, the grace, HUP, --max-jobs and --max-memory."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
import redis

from bench.runtime.waiting import wait_until
from queue_app.dispatch import connection, queues
from queue_app.models import Attempt, Job, Worker
from tests.app import tasks
from tests.support.marks import committed, on_postgresql_alone
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

pytestmark = [committed, on_postgresql_alone]


def held(client: redis.Redis) -> int:
    """How many jobs children hold."""
    return sum(client.hlen(key) for key in client.scan_iter("*:held:*"))


@pytest.mark.parametrize(
    "slots,seconds", [("1", 0.006), ("4", 0.024)]
)  # three seconds of work for two children
def test_a_stop_in_the_midst_of_a_thousand_jobs_loses_none_and_runs_none_twice(
    worker: StartWorker, tmp_path: Path, clean_redis: redis.Redis, slots: str, seconds: float
) -> None:
    first = worker("--processes", "2", "--slots", slots)
    calls = [((str(tmp_path), "ran", n, seconds), {}) for n in range(1_000)]
    ids = [result.id for result in tasks.label.enqueue_many(calls)]
    wait_for_lines(tmp_path, "ran", 100)
    assert first.stop() == 0
    ran = len(lines(tmp_path, "ran"))
    assert ran < 1_000, "it ended before it was stopped"
    assert Job.objects.filter(state="succeeded").count() == ran, "what was started was recorded"
    assert Job.objects.filter(state="queued", attempt=0).count() == 1_000 - ran
    assert held(clean_redis) == 0

    worker("--processes", "2", "--slots", slots)
    assert Counter(wait_for_end(ids)) == {"succeeded": 1_000}
    assert Counter(labels(tmp_path, "ran")) == {str(n): 1 for n in range(1_000)}
    assert Attempt.objects.count() == 1_000


def test_what_was_claimed_and_not_started_goes_back_in_its_order(worker: StartWorker, tmp_path: Path) -> None:
    first = worker(settings={"LONG_JOB": 60.0})  # nothing is given back before the end
    calls = [((str(tmp_path), "ran", n, 0.001), {}) for n in range(300)]
    tasks.label.enqueue_many(calls)
    wait_for_lines(tmp_path, "ran", 40)
    assert first.stop() == 0
    tasks.label.enqueue(str(tmp_path), "ran", 300)
    worker()
    wait_for_end(map(str, Job.objects.values_list("pk", flat=True)))
    assert labels(tmp_path, "ran") == [str(n) for n in range(301)]


def test_a_running_job_may_end_within_the_grace(worker: StartWorker, tmp_path: Path) -> None:
    process = worker()
    job_id = tasks.wait_for_file.enqueue(str(tmp_path), "started", "release").id
    wait_for_lines(tmp_path, "started")
    process.signal(signal.SIGTERM)
    process.wait_for("stopping: running jobs get up to 25 s; once more to hurry")
    later = tasks.noop.enqueue().id
    (tmp_path / "release").touch()
    assert process.wait() == 0
    assert attempts(job_id) == ["succeeded"]
    assert Job.objects.get(pk=later).state == "queued", "a stopping worker claims nothing"


@pytest.mark.parametrize("how", ["a second TERM", "QUIT", "the end of the grace"])
def test_what_does_not_end_is_requeued_without_blame(worker: StartWorker, tmp_path: Path, how: str) -> None:
    process = worker("--slots", "2", "--grace", "0.3" if how == "the end of the grace" else "60")
    job_id = tasks.wait_for_file.enqueue(str(tmp_path), "started", "release").id
    wait_for_lines(tmp_path, "started")
    process.signal(signal.SIGQUIT if how == "QUIT" else signal.SIGTERM)
    if how == "a second TERM":
        process.wait_for("stopping")
        process.signal(signal.SIGTERM)
    assert process.wait() == 0
    job = Job.objects.get(pk=job_id)
    assert (job.state, job.deaths, job.failures) == ("queued", 0, 0)
    assert attempts(job_id) == ["lost"]
    (entry,) = queues.claim(connection.client(), "default", "somebody.1", 5)[0]
    assert (entry.id, entry.number, entry.deaths) == (job_id, 2, 0)


def test_an_idle_child_stops_at_once(worker: StartWorker, clean_redis: redis.Redis) -> None:
    """It sleeps for up to 5 s at a time."""
    process = worker()
    spent = []
    for _ in range(3):
        wait_until(
            lambda: [c for c in clean_redis.client_list() if c["cmd"] == "blpop"], 20, "a sleeping child"
        )
        child = the_one(process)
        began = time.monotonic()
        os.kill(child, signal.SIGTERM)
        wait_until(lambda child=child: pids(process) not in ([], [child]), 20, "its successor")
        spent.append(time.monotonic() - began)
    assert min(spent) < 2.5, "the machine may have been busy, but not each time"
    assert process.stop() == 0
    assert Worker.objects.get().status == "stopped"
    assert "Traceback" not in process.output() and "died" not in process.output()


def test_ctrl_c_in_a_terminal_reaches_the_whole_group_and_drains(worker: StartWorker, tmp_path: Path) -> None:
    process = worker("--processes", "2")
    job_id = tasks.wait_for_file.enqueue(str(tmp_path), "started", "release").id
    wait_for_lines(tmp_path, "started")
    os.killpg(process.pid, signal.SIGINT)
    process.wait_for("stopping")
    (tmp_path / "release").touch()
    assert process.wait() == 0
    assert attempts(job_id) == ["succeeded"]
    assert "Traceback" not in process.output()


def test_hup_replaces_every_child_and_interrupts_no_job(worker: StartWorker, tmp_path: Path) -> None:
    process = worker("--processes", "2")
    before = set(pids(process))
    job_id = tasks.wait_for_file.enqueue(str(tmp_path), "started", "release").id
    wait_for_lines(tmp_path, "started")
    process.signal(signal.SIGHUP)
    process.wait_for("replacing the children one by one")
    assert wait_for_end([tasks.note.enqueue(str(tmp_path), "meanwhile").id]) == ["succeeded"]
    (tmp_path / "release").touch()
    assert wait_for_end([job_id]) == ["succeeded"]
    assert attempts(job_id) == ["succeeded"]
    wait_until(
        lambda: len(pids(process)) == 2 and not before & set(pids(process)),
        20,
        lambda: f"two new children instead of {before}, there are {pids(process)}",
    )
    assert wait_for_end([tasks.noop.enqueue().id]) == ["succeeded"]
    assert process.stop() == 0
    assert "died" not in process.output()


def test_children_are_replaced_after_so_many_jobs(worker: StartWorker, tmp_path: Path) -> None:
    process = worker("--max-jobs", "5")
    calls = [((str(tmp_path), "ran"), {}) for _ in range(18)]
    ids = [result.id for result in tasks.note.enqueue_many(calls)]
    assert Counter(wait_for_end(ids)) == {"succeeded": 18}
    by_child = list(Counter(line[0] for line in lines(tmp_path, "ran")).values())
    assert by_child == [5, 5, 5, 3]
    assert process.stop() == 0
    assert "died" not in process.output(), "a planned end is no death"


def test_children_are_replaced_above_so_much_memory(worker: StartWorker, tmp_path: Path) -> None:
    process = worker("--max-memory", "250")
    child = the_one(process)
    wait_for_end([tasks.hog.enqueue(str(tmp_path), "ran", 1).id])
    assert the_one(process) == child
    wait_for_end([tasks.hog.enqueue(str(tmp_path), "ran", 300).id])
    wait_until(lambda: pids(process) not in ([], [child]), 20, "another child")
    assert wait_for_end([tasks.note.enqueue(str(tmp_path), "ran").id]) == ["succeeded"]
    assert [int(line[0]) == child for line in lines(tmp_path, "ran")] == [True, True, False]
