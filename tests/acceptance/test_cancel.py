"""P6: a cancelled job that has not begun never begins; a running one is interrupted, or ended by force."""

from __future__ import annotations

import os
import random
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import redis
from django.db import connection

from bench.runtime.servers import PostgresqlServer
from bench.runtime.waiting import wait_until
from queue_app.dispatch import connection as redis_connection
from queue_app.dispatch import workers
from queue_app.lifecycle import operate
from queue_app.lifecycle.recovery import rebuild
from queue_app.models import Attempt, DeadLetter, Job
from tests.app import tasks
from tests.support.marks import committed, on_postgresql_alone
from tests.support.whole_workers import (
    StartWorker,
    attempts,
    kill,
    lines,
    processes,
    the_one,
    wait_for_end,
    wait_for_lines,
)

pytestmark = [committed, on_postgresql_alone]

#: Nobody may be killed unless a test is about that.
PATIENT: dict[str, Any] = {"CANCEL_GRACE": 300.0}
#: A short lease, so that a take-over is quick; the least that is allowed.
SHORT: dict[str, Any] = {"LEASE": 1.0, "CANCEL_GRACE": 0.3}


def cancel(*ids: str) -> None:
    """Cancel jobs that run."""
    answer = operate.cancel(ids)
    assert (answer.requested, answer.done, answer.refused) == (list(ids), [], {})


def seconds_to_end(job_id: str) -> float:
    """From the request to the end."""
    job = Job.objects.get(pk=job_id)
    assert job.finished_at is not None and job.cancel_requested_at is not None
    return (job.finished_at - job.cancel_requested_at).total_seconds()


@pytest.mark.parametrize("slots", ["1", "3"])
@pytest.mark.parametrize("row_says_running", [False, True])
def test_a_running_job_is_interrupted_and_cleans_up(
    worker: StartWorker, tmp_path: Path, slots: str, row_says_running: bool
) -> None:
    settings = PATIENT | {"RUNNING_AFTER": 0.05 if row_says_running else 3_600.0}
    process = worker("--slots", slots, settings=settings)
    child = the_one(process)
    folder = str(tmp_path)
    first = tasks.work_until_cancelled.enqueue(folder, "first").id
    wait_for_lines(tmp_path, "first")
    if row_says_running:
        wait_until(lambda: Job.objects.get(pk=first).state == "running", 60)
    cancel(first)
    in_async = tasks.async_work_until_cancelled.enqueue(folder, "async").id
    wait_for_lines(tmp_path, "async")
    cancel(in_async)
    assert wait_for_end([first, in_async]) == ["cancelled"] * 2
    for job_id, name in ((first, "first"), (in_async, "async")):
        attempt = Attempt.objects.get(job_id=job_id)
        assert (attempt.state, attempt.error_class) == ("cancelled", "queue_app.exceptions.Cancelled")
        assert attempt.error == "The job was cancelled."
        assert [line[2] for line in lines(tmp_path, name)] == ["begun", "cleaned"], (
            "the task has cleaned up, in time"
        )
        job = Job.objects.get(pk=job_id)
        assert (job.attempt, job.failures, job.deaths) == (1, 0, 0)
        assert seconds_to_end(job_id) < 10
    assert not DeadLetter.objects.exists()
    assert wait_for_end([tasks.noop.enqueue().id]) == ["succeeded"]
    assert the_one(process) == child, "an interruption costs no process"
    process.wait_for(f"Attempt 1 of job {first} (tests.app.tasks.work_until_cancelled) was interrupted")


@pytest.mark.parametrize("slots", ["1", "2"])
def test_a_running_job_ends_within_a_second(worker: StartWorker, tmp_path: Path, slots: str) -> None:
    """The best of three, as the machine may be busy with other things."""
    worker("--slots", slots, settings=PATIENT)
    waits = []
    for n in range(3):
        job_id = tasks.work_until_cancelled.enqueue(str(tmp_path), f"began-{n}").id
        wait_for_lines(tmp_path, f"began-{n}")
        cancel(job_id)
        assert wait_for_end([job_id]) == ["cancelled"]
        waits.append(seconds_to_end(job_id))
    assert min(waits) < 1, waits


def test_a_running_job_is_found_while_its_child_makes_room_for_another(
    worker: StartWorker, tmp_path: Path
) -> None:
    """HUP: the child ends when its job has ended, and no sooner."""
    process = worker(settings=PATIENT)
    child = the_one(process)
    job_id = tasks.work_until_cancelled.enqueue(str(tmp_path), "began").id
    wait_for_lines(tmp_path, "began")
    os.kill(process.pid, signal.SIGHUP)
    process.wait_for("replacing the children one by one")
    cancel(job_id)
    assert wait_for_end([job_id]) == ["cancelled"]
    wait_until(lambda: child not in [p.pid for p in processes(process, "child")], 60, "its successor")


@pytest.mark.parametrize("slots", ["1", "2"])
def test_the_context_says_so_to_who_cannot_be_interrupted(
    worker: StartWorker, tmp_path: Path, slots: str
) -> None:
    worker("--slots", slots, settings=PATIENT)
    job_id = tasks.poll_cancelled.enqueue(str(tmp_path), "polls").id
    wait_for_lines(tmp_path, "polls")
    cancel(job_id)
    assert wait_for_end([job_id]) == ["succeeded"], "what succeeds although it was cancelled has succeeded"
    assert Job.objects.get(pk=job_id).return_value == "heard of it"


@pytest.mark.parametrize("task", [tasks.swallow, tasks.hold_the_lock])
def test_who_does_not_end_is_killed_and_the_neighbour_is_not_to_blame(
    worker: StartWorker, tmp_path: Path, task: Any
) -> None:
    process = worker("--slots", "2", settings={"CANCEL_GRACE": 0.5})
    child = the_one(process)
    neighbour = tasks.wait_for_file.enqueue(str(tmp_path), "neighbour", "release").id
    wait_for_lines(tmp_path, "neighbour")
    stuck = task.enqueue(str(tmp_path), "stuck").id
    wait_for_lines(tmp_path, "stuck")
    cancel(stuck)
    wait_for_lines(tmp_path, "neighbour", 2)
    (tmp_path / "release").touch()
    assert wait_for_end([stuck, neighbour]) == ["cancelled", "succeeded"]
    attempt = Attempt.objects.get(job_id=stuck)
    assert (attempt.state, attempt.error_class) == ("cancelled", "queue_app.exceptions.Cancelled")
    assert attempt.error.startswith("The job was cancelled, and killed after ")
    assert seconds_to_end(stuck) >= 0.5
    assert attempts(neighbour) == ["lost", "succeeded"]
    job = Job.objects.get(pk=neighbour)
    assert (job.failures, job.deaths) == (0, 0), "it was not to blame"
    assert len(lines(tmp_path, "stuck")) == 1 and the_one(process) != child
    assert not DeadLetter.objects.exists()


@pytest.mark.parametrize("slots", ["1", "2"])
def test_what_was_claimed_and_not_begun_never_begins(worker: StartWorker, tmp_path: Path, slots: str) -> None:
    """They are in the hands of a child that is busy; most of them are cancelled there."""
    folder = str(tmp_path)
    first = [tasks.noop.enqueue().id for _ in range(200)]  # so that the child learns to claim many
    busy = [tasks.poll_cancelled.enqueue(folder, "busy").id for _ in range(int(slots))]
    behind = [r.id for r in tasks.label.enqueue_many([((folder, "behind", n), {}) for n in range(20)])]
    worker("--slots", slots, settings=PATIENT | {"LONG_JOB": 3_600.0, "CLAIM_MAX": 500})
    wait_for_lines(tmp_path, "busy", int(slots))
    answer = operate.cancel(behind[1:])
    assert sorted(answer.requested) == sorted(behind[1:]), "they were claimed along with the others"
    cancel(*busy)  # who ends when it hears of it: by then its child has heard of the others
    assert wait_for_end([*first, *busy, behind[0]]) == ["succeeded"] * (201 + int(slots))
    assert set(wait_for_end(behind[1:])) == {"cancelled"}
    assert not Attempt.objects.filter(job_id__in=behind[1:]).exists()
    assert [line[2] for line in lines(tmp_path, "behind")] == ["0"]


def test_what_is_given_back_after_it_was_cancelled_ends(worker: StartWorker, tmp_path: Path) -> None:
    """Its child is killed while another job runs: it goes back without blame, and must not start elsewhere."""
    folder = str(tmp_path)
    for _ in range(100):
        tasks.noop.enqueue()
    busy = tasks.wait_for_file.enqueue(folder, "busy", "release").id
    behind = [r.id for r in tasks.label.enqueue_many([((folder, "behind", n), {}) for n in range(3)])]
    process = worker(settings=PATIENT | {"LONG_JOB": 3_600.0})
    wait_for_lines(tmp_path, "busy")
    cancel(*behind)
    kill(the_one(process))
    wait_for_lines(tmp_path, "busy", 2)
    (tmp_path / "release").touch()
    assert wait_for_end([busy, *behind]) == ["succeeded"] + ["cancelled"] * 3
    assert not Attempt.objects.filter(job_id__in=behind).exists() and not lines(tmp_path, "behind")


@pytest.mark.parametrize("whom", ["child", "worker"])
def test_killed_after_the_request_it_ends_cancelled_and_never_runs_again(
    worker: StartWorker, tmp_path: Path, whom: str
) -> None:
    process = worker(settings=SHORT | {"CANCEL_GRACE": 300.0})
    job_id = tasks.swallow.enqueue(str(tmp_path), "stubborn").id
    wait_for_lines(tmp_path, "stubborn")
    cancel(job_id)
    if whom == "child":
        kill(the_one(process))
    else:
        process.kill()
        worker(settings=SHORT)
    assert wait_for_end([job_id]) == ["cancelled"]
    assert attempts(job_id) == ["lost"]
    assert wait_for_end([tasks.noop.enqueue().id]) == ["succeeded"]
    assert len(lines(tmp_path, "stubborn")) == 1
    assert not DeadLetter.objects.exists()


@pytest.mark.parametrize("task", [tasks.work_until_cancelled, tasks.swallow])
def test_a_request_that_redis_lost_is_repeated(
    worker: StartWorker, tmp_path: Path, task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks as the request is sent, and Redis is emptied: the row still knows of it."""

    def broken(*_: object) -> None:
        raise redis.ConnectionError("injected")

    worker(settings={"LEASE": 5.0, "CANCEL_GRACE": 0.3})
    job_id = task.enqueue(str(tmp_path), "runs").id
    wait_for_lines(tmp_path, "runs")
    monkeypatch.setattr(workers, "interrupt", broken)
    cancel(job_id)
    redis_connection.client().flushall()
    assert wait_for_end([job_id]) == ["cancelled"]
    assert attempts(job_id) == ["cancelled"]
    assert wait_for_end([tasks.noop.enqueue().id]) == ["succeeded"]
    assert len([line for line in lines(tmp_path, "runs") if line[2] == "begun"]) == 1


@pytest.mark.parametrize("how", ["cancelled", "timed_out"])
def test_an_interrupted_statement_does_not_spoil_the_connection(
    worker: StartWorker, tmp_path: Path, postgresql_process: PostgresqlServer, how: str
) -> None:
    process = worker(settings=PATIENT | {"HARD_TIMEOUT_GRACE": 300.0})
    child = the_one(process)
    slow = tasks.slow_query.using(timeout=None if how == "cancelled" else 0.3, max_attempts=1)
    job_id = slow.enqueue(str(tmp_path), "asks", 3_600).id
    wait_for_lines(tmp_path, "asks")
    if how == "cancelled":
        cancel(job_id)
    assert wait_for_end([job_id]) == ["cancelled" if how == "cancelled" else "failed"]
    assert attempts(job_id) == [how]
    with connection.cursor() as cursor:
        asked = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT 1 FROM pg_sleep%%' AND state = 'active'"

        def at_work() -> int:
            cursor.execute(asked)
            return int(cursor.fetchone()[0])

        wait_until(lambda: at_work() == 0, 60, "the server's end of the statement")
    after = [tasks.slow_query.using(max_attempts=1).enqueue(str(tmp_path), "asks", 0).id for _ in range(3)]
    assert wait_for_end(after) == ["succeeded"] * 3
    assert the_one(process) == child


def test_a_failing_job_that_was_cancelled_is_not_retried(worker: StartWorker, tmp_path: Path) -> None:
    worker(settings=PATIENT)
    job_id = tasks.fail_when_cancelled.enqueue(str(tmp_path), "runs").id
    wait_for_lines(tmp_path, "runs")
    cancel(job_id)
    assert wait_for_end([job_id]) == ["cancelled"]
    assert attempts(job_id) == ["failed"]
    assert Attempt.objects.get().error == "could not clean up"
    assert not DeadLetter.objects.exists()


def test_nothing_that_is_done_ever_begins_while_two_workers_claim(
    worker: StartWorker, postgresql_process: PostgresqlServer
) -> None:
    """P6 under load: of 50,000 jobs that two workers claim, all odd ones are cancelled at the same time."""
    count, chunk = 50_000, 500
    ids = [r.id for r in tasks.noop.enqueue_many([((), {})] * count)]
    parts = [ids[first + 1 : first + 2 * chunk : 2] for first in range(0, count, 2 * chunk)]
    random.Random(7).shuffle(parts)  # some find theirs waiting, some claimed, some ended
    answers: list[operate.Answer] = []
    rebuild.at_once(redis_connection.client())  # or, until a leader has done it, all are but asked to end

    def cancel_parts() -> None:
        while parts:
            part = parts.pop()
            answers.append(operate.cancel(part))
        connection.close()

    # Nobody may be given up for dead on a busy machine: a lost attempt that was made before would count as one.
    for _ in range(2):
        worker(settings=PATIENT | {"LEASE": 300.0}, ready=False)
    threads = [threading.Thread(target=cancel_parts) for _ in range(2)]
    wait_until(Attempt.objects.exists, 60)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = {job_id for answer in answers for job_id in answer.done}
    requested = {job_id for answer in answers for job_id in answer.requested}
    wait_until(lambda: not Job.objects.unfinished().exists(), 180)
    states = {str(pk): state for pk, state in Job.objects.values_list("pk", "state")}
    attempted = set(map(str, Attempt.objects.values_list("job_id", flat=True)))
    assert done, "none waited any more"
    assert not done & attempted, "done means that it never begins"
    assert {states[i] for i in done} == {"cancelled"}
    assert {states[i] for i in requested} <= {"cancelled", "succeeded"}
    assert {i for i, state in states.items() if state == "cancelled"} <= done | requested
    assert len(states) == count and {states[i] for i in ids[::2]} == {"succeeded"}
