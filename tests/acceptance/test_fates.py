"""Every fate that a job can meet, in a real worker, with the jobs' threads and without."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from bench.runtime.waiting import wait_until
from queue_app import clock
from queue_app.domain.states import JobState
from queue_app.lifecycle import operate
from queue_app.models import Attempt, DeadLetter, Job, Worker
from queue_app.tasks.handle import get_result
from tests.app import dtasks, tasks
from tests.support.marks import committed, on_sqlite_alone
from tests.support.whole_workers import (
    StartWorker,
    attempts,
    labels,
    lines,
    the_one,
    wait_for_end,
    wait_for_lines,
)

pytestmark = [committed, on_sqlite_alone]


@pytest.mark.parametrize("slots", ["1", "3"])
def test_every_fate(worker: StartWorker, tmp_path: Path, slots: str) -> None:
    folder = str(tmp_path)
    process = worker("--slots", slots)
    child = the_one(process)
    once = {"max_attempts": 1}
    jobs = {
        "value": tasks.echo.enqueue("ä", [1.5, None], key={"x": 1e22}),
        "large": tasks.echo.enqueue("x" * 50_000),
        "async": tasks.async_add.enqueue(2, 3),
        "retried": tasks.fail_times.enqueue(folder, "retried", 2),
        "exhausted": tasks.fail.enqueue("no \x7f\\N luck"),
        "asked again": tasks.control.enqueue("retry"),
        "discarded": tasks.control.enqueue("discard"),
        "snoozed": tasks.snooze_once.enqueue(0.1),
        "left": tasks.exit_with.using(**once).enqueue(3),
        "no JSON": tasks.unserialisable.using(**once).enqueue(),
        "open": tasks.leave_transaction_open.enqueue(),
        "more": tasks.enqueue_more.enqueue(folder, "more", 7),
        "standard": dtasks.noop.enqueue(),
        "wrong call": tasks.note.using(**once).enqueue("only one argument"),
    }
    ids = {name: result.id for name, result in jobs.items()}
    found = dict(zip(ids, wait_for_end(ids.values()), strict=True))
    failed = {"exhausted", "asked again", "discarded", "left", "no JSON", "wrong call"}
    assert found == {name: "failed" if name in failed else "succeeded" for name in ids}

    assert get_result(ids["value"]).return_value == [["ä", [1.5, None]], {"key": {"x": 1e22}}]
    assert get_result(ids["large"]).return_value == [["x" * 50_000], {}]
    assert get_result(ids["async"]).return_value == 5
    assert get_result(ids["retried"]).return_value == "at last"
    assert get_result(ids["snoozed"]).return_value == 2
    ends = {name: attempts(job_id) for name, job_id in ids.items() if attempts(job_id) != ["succeeded"]}
    assert ends == {
        "retried": ["failed", "failed", "succeeded"],
        "exhausted": ["failed"] * 3,
        "asked again": ["failed"] * 3,
        "discarded": ["failed"],
        "snoozed": ["snoozed", "succeeded"],
        "left": ["failed"],
        "no JSON": ["failed"],
        "wrong call": ["failed"],
    }
    letters = {str(letter.job_id): letter for letter in DeadLetter.objects.all()}
    assert set(letters) == {ids[name] for name in failed}
    said = {name: (letters[ids[name]].reason, letters[ids[name]].error) for name in failed}
    assert said["exhausted"] == ("exhausted", "no \x7f\\N luck")
    assert said["discarded"] == ("discarded", "no use")
    assert said["asked again"] == ("exhausted", "asked")
    assert said["left"] == ("exhausted", "3")
    assert "the return value is of type builtins.object" in said["no JSON"][1]
    assert "missing 1 required positional argument: 'name'" in said["wrong call"][1]
    last = Attempt.objects.filter(job_id=ids["exhausted"]).latest("number")
    assert last.error_class == "builtins.ValueError"
    assert last.traceback.startswith("Traceback") and "in fail" in last.traceback
    assert "executor" not in last.traceback, "the frames of the worker are nobody's business"
    wait_for_lines(tmp_path, "more", 7)
    assert "left a transaction open" in process.output()

    assert set(Attempt.objects.values_list("worker_id", flat=True)) == {Worker.objects.get().pk}
    assert the_one(process) == child, "nothing of this may cost the child its life"
    assert process.stop() == 0
    assert "Traceback" not in process.output()


def test_a_dead_job_is_replayed(worker: StartWorker, tmp_path: Path) -> None:
    worker()
    job_id = tasks.fail_times.using(max_attempts=1).enqueue(str(tmp_path), "lives", 1).id
    assert wait_for_end([job_id]) == ["failed"]
    assert operate.replay(jobs=[job_id]).done == [job_id]
    assert wait_for_end([job_id]) == ["succeeded"]
    assert attempts(job_id) == ["failed", "succeeded"]
    result = get_result(job_id)
    assert (result.return_value, result.attempts, len(result.errors)) == ("at last", 2, 1)


@pytest.mark.parametrize("task", [tasks.meet, tasks.async_meet], ids=["threads", "async"])
def test_a_child_runs_as_many_jobs_at_once_as_it_has_slots(
    worker: StartWorker, tmp_path: Path, task: Any
) -> None:
    process = worker("--slots", "4")
    ids = [task.enqueue(str(tmp_path), "met", 4).id for _ in range(4)]
    assert wait_for_end(ids) == ["succeeded"] * 4
    assert {int(line[0]) for line in lines(tmp_path, "met")} == {the_one(process)}


def test_a_running_job_is_seen_running_and_tells_its_progress(worker: StartWorker, tmp_path: Path) -> None:
    worker(settings={"RUNNING_AFTER": 1.5})
    result = tasks.report.enqueue(str(tmp_path), "release")
    wait_until(lambda: get_result(result.id).status == JobState.RUNNING, 10, "its start")
    assert Job.objects.get(pk=result.id).state == "queued", "the row learns of it only when it takes longer"
    wait_until(lambda: get_result(result.id).progress == [1, 3, "a third"], 10, "its progress in the record")
    job = Job.objects.get(pk=result.id)
    assert (job.state, job.attempt) == ("running", 0)
    assert job.started_at is not None and job.worker_id == Worker.objects.get().pk
    result.refresh()
    assert (result.status, result.worker_ids) == (JobState.RUNNING, [str(job.worker_id)])
    (tmp_path / "release").touch()
    assert wait_for_end([result.id]) == ["succeeded"]
    result.refresh()
    assert (result.return_value, result.progress) == (result.id, [3, 3, "done"])


def test_delayed_jobs_start_at_their_time(worker: StartWorker, tmp_path: Path) -> None:
    worker()
    now = clock.seconds()
    due = {name: now + delay for name, delay in (("third", 0.9), ("first", 0.3), ("second", 0.6))}
    ids = [
        tasks.label.using(run_after=clock.from_seconds(at)).enqueue(str(tmp_path), "order", name).id
        for name, at in due.items()
    ]
    assert wait_for_end(ids) == ["succeeded"] * 3
    assert labels(tmp_path, "order") == ["first", "second", "third"]
    late = sorted(float(at) - due[label] for _, at, label in lines(tmp_path, "order"))
    assert late[0] >= 0
    assert late[1] < 0.5, "the machine may have been busy once, not twice"


def test_queues_in_their_order_then_priorities_then_age(worker: StartWorker, tmp_path: Path) -> None:
    priorities = [0, -7, 100, 0, 3, -100, 3, 100, 0]
    ids = []
    for n, priority in enumerate(priorities):
        for queue in ("b", "a"):
            task = tasks.label.using(queue_name=queue, priority=priority)
            ids.append(task.enqueue(str(tmp_path), "order", f"{queue}{n}").id)
    elsewhere = tasks.noop.enqueue().id
    worker("--queues", "a,b")
    wait_for_end(ids)
    expected = sorted(range(len(priorities)), key=lambda n: (-priorities[n], n))
    assert labels(tmp_path, "order") == [f"{queue}{n}" for queue in ("a", "b") for n in expected]
    assert Job.objects.get(pk=elsewhere).state == "queued", "a worker leaves other queues alone"


def test_queues_with_weights(worker: StartWorker, tmp_path: Path) -> None:
    ids = [
        tasks.label.using(queue_name=queue).enqueue(str(tmp_path), "order", queue).id
        for _ in range(100)
        for queue in ("b", "a")
    ]
    worker("--queues", "a:9,b:1", settings={"CLAIM_MAX": 1})
    wait_for_end(ids)
    share = labels(tmp_path, "order")[:100].count("a")
    # Of 100 claims 90 ± 3 ask queue a first; seven standard deviations either way never happen.
    assert 69 <= share <= 99


def test_a_paused_queue_waits(worker: StartWorker, tmp_path: Path) -> None:
    operate.pause("mail")
    mail = tasks.note.using(queue_name="mail").enqueue(str(tmp_path), "mail").id
    worker("--queues", "mail,default")
    assert wait_for_end([tasks.noop.enqueue().id]) == ["succeeded"]
    assert Job.objects.get(pk=mail).state == "queued"
    operate.resume("mail")
    resumed = time.time()
    assert wait_for_end([mail]) == ["succeeded"]
    assert float(lines(tmp_path, "mail")[0][1]) - resumed < 3.5, "a resume wakes a sleeping child"


def test_the_worker_is_in_the_record_from_its_start_to_its_end(worker: StartWorker) -> None:
    process = worker(
        "--queues", "mail:2,default", "--processes", "2", "--slots", "3", settings={"RELEASE": "v7"}
    )
    wait_until(lambda: Worker.objects.filter(last_claim_at__isnull=False).exists(), 10, "a claim in its row")
    row = Worker.objects.get()
    assert (row.pid, row.queues, row.processes, row.slots) == (process.pid, "mail:2,default:1", 2, 3)
    assert (row.status, row.release) == ("alive", "v7")
    said = [line for line in process.output().splitlines() if " WARNING " not in line]
    assert str(row.pk) in said[0], "nobody has rights here, which is said before it"
    assert process.stop() == 0
    row.refresh_from_db()
    assert row.status == "stopped"
    assert process.output().splitlines()[-1] == "stopped"
