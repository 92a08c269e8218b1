"""P10: a job that this worker's code does not know waits for a worker that does; it is never failed for that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis

from queue_app.dispatch import connection, keys
from queue_app.lifecycle import enqueue
from queue_app.models import Attempt, DeadLetter, Job
from tests import tasks
from tests.acceptance.support import StartWorker, wait_for_end
from tests.support.marks import committed
from tests.support.waiting import wait_until

pytestmark = committed


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
    module, function = (
        enqueue_by_name("newer_release.greet"),
        enqueue_by_name("tests.tasks.greet_differently"),
    )
    not_a_task = enqueue_by_name("tests.tasks.mark")
    backend = enqueue_by_name("tests.dtasks.noop", backend="elsewhere")
    unknown = [module, function, not_a_task, backend]
    old = worker()
    for job_id in unknown:
        old.wait_for(f"Job {job_id} waits for a worker that knows its task.")
    assert wait_for_end([tasks.noop.enqueue().id]) == ["succeeded"], "they are in nobody's way"
    for why in (
        "there is no module 'newer_release'",
        "the module has no 'greet_differently'",
        "'tests.tasks.mark' is a function, not a task",
        "TASKS has no backend 'elsewhere'",
    ):
        assert why in old.output()
    assert set(Job.objects.filter(pk__in=unknown).values_list("state", "attempt")) == {("queued", 0)}
    assert Attempt.objects.exclude(job__task="tests.tasks.noop").count() == DeadLetter.objects.count() == 0
    assert old.stop() == 0

    code = "from queue_app import task\n\n@task\ndef greet(whom): return 'hello ' + whom\n"
    (tmp_path / "newer_release.py").write_text(code)
    client = connection.client()
    wait_until(lambda: client.zscore(keys.due("default"), module), 10, "it waits for its next offer")
    client.zadd(keys.due("default"), {module: 0})  # … which is seconds away: have it now
    worker(environment={"PYTHONPATH": str(tmp_path)})
    assert wait_for_end([module]) == ["succeeded"]
    assert Job.objects.get(pk=module).return_value == "hello later"
    assert Job.objects.get(pk=function).state == "queued"


def test_a_module_that_cannot_be_imported_costs_no_job(worker: StartWorker, tmp_path: Path) -> None:
    (tmp_path / "broken_release.py").write_text("raise SystemExit('half deployed')\n")
    job_id = enqueue_by_name("broken_release.greet")
    process = worker(environment={"PYTHONPATH": str(tmp_path)})
    process.wait_for(f"Job {job_id} waits for a worker that knows its task.")
    assert "half deployed" in process.output()
    assert wait_for_end([tasks.noop.enqueue().id]) == ["succeeded"]
    assert Job.objects.get(pk=job_id).state == "queued"


@pytest.mark.parametrize(
    "body",
    [
        '0:-|["tests.tasks.noop",1,0,0,4,1.0,null,null,null,"",[[],{}],"a field of the next release"]',
        '0:-|["tests.tasks.noop",1,0',
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
