"""P10: a job that this worker's code does not know waits for a worker that does; it is never failed for that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis

from bench.runtime.waiting import wait_until
from bench.runtime.workers import WorkerProcess
from queue_app.dispatch import connection, epochs, keys, listing
from queue_app.lifecycle import enqueue, operate
from queue_app.models import Attempt, DeadLetter, Job, Worker
from queue_app.queries.jobs import waiting_for_task
from tests.app import tasks
from tests.support.marks import committed, on_postgresql_alone
from tests.support.whole_workers import StartWorker, wait_for_end

pytestmark = [committed, on_postgresql_alone]

#: The settings of the newer release; the older one's module is not there, and so it is refused either way.
NEWER: dict[str, Any] = {"TASK_MODULES": ["newer_release"]}


def enqueue_by_name(task: str, **more: Any) -> str:
    """A job as another release of the project has enqueued it."""
    request = {
        "queue": "default",
        "priority": 0,
        "run_after": None,
        "backend": "",
        "max_attempts": 1,
        "timeout": None,
        "fallback_attempts": 1,
    }
    return enqueue.enqueue(enqueue.Request(task=task, **request | more), ['[["later"],{}]']).ids[0]


def test_a_job_of_a_newer_release_waits_for_its_worker(worker: StartWorker, tmp_path: Path) -> None:
    module, function, outside = (
        enqueue_by_name("newer_release.greet"),
        enqueue_by_name("tests.app.tasks.greet_differently"),
        enqueue_by_name("antigravity.fly"),
    )
    not_a_task = enqueue_by_name("tests.app.tasks.mark")
    backend = enqueue_by_name("tests.app.dtasks.noop", backend="elsewhere")
    unknown = [module, function, outside, not_a_task, backend]
    old = worker(settings=NEWER)
    for job_id in unknown:
        old.wait_for(f"Job {job_id} waits for a worker that knows its task.")
    assert wait_for_end([tasks.noop.enqueue().id]) == ["succeeded"], "they are in nobody's way"
    for why in (
        "there is no module 'newer_release'",
        "the module has no 'greet_differently'",
        "'tests.app.tasks.mark' is a function, not a task",
        "TASKS has no backend 'elsewhere'",
        "Add its app to INSTALLED_APPS, or 'antigravity' to TASK_MODULES of QUEUE_APP.",
    ):
        assert why in old.output()
    assert set(Job.objects.filter(pk__in=unknown).values_list("state", "attempt")) == {("queued", 0)}
    assert (
        Attempt.objects.exclude(job__task="tests.app.tasks.noop").count() == DeadLetter.objects.count() == 0
    )
    assert old.stop() == 0

    assert {str(pk) for pk in waiting_for_task(Job.objects.all())} == set(unknown)
    newer = release(worker, tmp_path)
    assert wait_for_end([module]) == ["succeeded"]
    newer.wait_for("Jobs have waited for a worker that knows newer_release.greet;")
    assert {str(pk) for pk in waiting_for_task(Job.objects.all())} == set(unknown[1:])
    assert Job.objects.get(pk=module).return_value == "hello later"
    assert Job.objects.get(pk=function).state == "queued"


def release(worker: StartWorker, folder: Path, **more: Any) -> WorkerProcess:
    """A worker of a newer release, which has the task `newer_release.greet`."""
    code = "from queue_app import task\n\n@task\ndef greet(whom): return 'hello ' + whom\n"
    (folder / "newer_release.py").write_text(code)
    return worker(settings=NEWER, environment={"PYTHONPATH": str(folder)}, **more)


def test_many_of_a_newer_release_are_claimed_once_and_then_left_alone(
    worker: StartWorker, tmp_path: Path, clean_redis: redis.Redis
) -> None:
    request = enqueue.Request(
        task="newer_release.greet", queue="default", priority=0, run_after=None, backend="", max_attempts=1,
        timeout=None, fallback_attempts=1,
    )  # fmt: skip
    ids = enqueue.enqueue(request, ['[["x"],{}]'] * 500).ids
    old = worker("--processes", "2", settings=NEWER)
    wait_until(lambda: len(waiting_for_task(Job.objects.all())) == 500, 60, "all set aside")
    assert wait_for_end([tasks.noop.enqueue().id]) == ["succeeded"]
    wait_until(
        lambda: epochs.all_open(connection.client()), 60, "the first rebuild: cancel but asks until then"
    )
    warning = "waits for a worker that knows its task"
    aside = keys.unknown_of("default", "|newer_release.greet")
    before = clean_redis.zrange(aside, 0, -1)
    busy = wait_for_end([tasks.noop.enqueue(n).id for n in range(20)])
    assert busy == ["succeeded"] * 20
    assert len(before) == 500 and clean_redis.zrange(aside, 0, -1) == before, "left alone"
    assert old.output().count(warning) <= 2, "once for each child, not for each job"
    client = connection.client()
    wait_until(lambda: not listing.counts(client, ["default"])["default"].held, 60, "all children are idle")
    assert operate.cancel(ids[:100]).done == ids[:100]
    release(worker, tmp_path)
    assert wait_for_end(ids[100:]) == ["succeeded"] * 400
    assert set(Job.objects.filter(pk__in=ids[:100]).values_list("state", "attempt")) == {("cancelled", 0)}
    assert not clean_redis.exists(keys.unknown("default"))


def test_old_and_new_side_by_side(worker: StartWorker, tmp_path: Path) -> None:
    """A rolling deploy: what the old one claims goes to the new one, although that has been there before."""
    release(worker, tmp_path)
    worker()
    ids = [enqueue_by_name("newer_release.greet") for _ in range(20)]
    assert wait_for_end(ids) == ["succeeded"] * 20


def test_set_aside_jobs_come_back_after_flushall(
    worker: StartWorker, tmp_path: Path, clean_redis: redis.Redis
) -> None:
    job_id = enqueue_by_name("newer_release.greet")
    old = worker()
    old.wait_for(f"Job {job_id} waits for a worker that knows its task.")
    client = connection.client()
    wait_until(lambda: epochs.all_open(client), 60, "the first rebuild")
    clean_redis.flushall()
    wait_until(lambda: waiting_for_task(Job.objects.all()), 60, "it is pushed, claimed and set aside again")
    release(worker, tmp_path)
    assert wait_for_end([job_id]) == ["succeeded"]


def test_workers_publish_their_tasks_and_release(worker: StartWorker) -> None:
    worker(settings={"RELEASE": "2026.11"})
    row = wait_until(lambda: Worker.objects.first(), 60, "its row")
    assert row.release == "2026.11"
    assert "tests.app.tasks.noop" in row.tasks and row.tasks == sorted(row.tasks)


def test_a_module_that_cannot_be_imported_costs_no_job(worker: StartWorker, tmp_path: Path) -> None:
    (tmp_path / "broken_release.py").write_text("raise SystemExit('half deployed')\n")
    job_id = enqueue_by_name("broken_release.greet")
    process = worker(settings={"TASK_MODULES": ["broken_release"]}, environment={"PYTHONPATH": str(tmp_path)})
    process.wait_for(f"Job {job_id} waits for a worker that knows its task.")
    assert "half deployed" in process.output()
    assert wait_for_end([tasks.noop.enqueue().id]) == ["succeeded"]
    assert Job.objects.get(pk=job_id).state == "queued"


@pytest.mark.parametrize(
    "body",
    [
        '0:-|["tests.app.tasks.noop",1,0,0,4,1.0,null,null,null,"",[[],{}],"a field of the next release"]',
        '0:-|["tests.app.tasks.noop",1,0',
    ],
    ids=["another format", "cut off"],
)
def test_a_body_of_another_release_is_made_anew_from_the_record(
    worker: StartWorker, clean_redis: redis.Redis, body: str
) -> None:
    first, unreadable, last = (tasks.noop.enqueue().id for _ in range(3))
    clean_redis.hset(keys.body("default"), unreadable, body)
    process = worker()
    assert wait_for_end([first, unreadable, last]) == ["succeeded"] * 3
    assert Attempt.objects.count() == 3
    assert process.stop() == 0
    assert "died" not in process.output()
