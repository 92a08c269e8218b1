"""P9, P10: a task whose module kills the process that imports it, hangs, or is none of the worker's business."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.runtime.waiting import wait_until
from bench.runtime.workers import WorkerProcess
from queue_app.lifecycle import operate
from queue_app.models import Attempt, DeadLetter, Job
from queue_app.queries.jobs import waiting_for_task
from tests.acceptance.test_unknown import enqueue_by_name
from tests.app import tasks
from tests.support.marks import committed, on_postgresql_alone
from tests.support.whole_workers import StartWorker, attempts, lines, the_one, wait_for_end, wait_for_lines

pytestmark = [committed, on_postgresql_alone]

#: Leaves a mark each time that it is imported, then does what the test wants.
MODULE = """
import os, signal, threading
from queue_app import task
from tests.app.tasks import mark
mark({folder!r}, "imported")
{what}

@task
def greet(whom): return "hello " + whom
"""
KILL = "os.kill(os.getpid(), signal.SIGKILL); threading.Event().wait()"
HANG = "threading.Event().wait()"


def start(
    worker: StartWorker, folder: Path, what: str, *arguments: str, allowed: bool = True, **settings: Any
) -> WorkerProcess:
    """A worker that has the module `late_module`, which no app brings along."""
    (folder / "late_module.py").write_text(MODULE.format(folder=str(folder), what=what))
    settings = {"POISON_AFTER": 2, "TASK_MODULES": ["late_module"] if allowed else []} | settings
    return worker(*arguments, settings=settings, environment={"PYTHONPATH": str(folder)})


def test_a_task_whose_import_kills_is_quarantined(worker: StartWorker, tmp_path: Path) -> None:
    """Also one of the Tasks API: its signals are sent by the keeper, which must not import it either."""
    killer = enqueue_by_name("late_module.greet", backend="default")
    others = [result.id for result in tasks.noop.enqueue_many([((), {})] * 10)]
    process = start(worker, tmp_path, KILL)
    keeper = the_one(process, "keeper")
    assert wait_for_end([killer, *others]) == ["failed"] + ["succeeded"] * 10
    assert attempts(killer) == ["lost"] * 2
    letter = DeadLetter.objects.get()
    assert letter.reason == "poison"
    assert letter.error.startswith("killed by SIGKILL, peak memory ")
    assert letter.error.endswith(", while importing late_module")
    assert Attempt.objects.filter(job_id=killer, started_at=None).count() == 0
    assert len(lines(tmp_path, "imported")) == 2
    assert wait_for_end([tasks.noop.enqueue().id]) == ["succeeded"]
    assert the_one(process, "keeper") == keeper
    assert process.stop() == 0


def test_a_task_whose_import_hangs_is_quarantined(worker: StartWorker, tmp_path: Path) -> None:
    killer = enqueue_by_name("late_module.greet")
    others = [result.id for result in tasks.noop.enqueue_many([((), {})] * 10)]
    start(worker, tmp_path, HANG, IMPORT_TIMEOUT=1.0)
    assert wait_for_end([killer, *others]) == ["failed"] + ["succeeded"] * 10
    assert attempts(killer) == ["lost"] * 2
    letter = DeadLetter.objects.get()
    assert letter.reason == "poison"
    assert letter.error.endswith(
        ", while importing late_module, which takes longer than IMPORT_TIMEOUT (1 s)"
    )
    assert len(lines(tmp_path, "imported")) == 2
    assert Job.objects.get(pk=killer).failures == 0, "the task itself never ran"


def test_an_import_that_takes_its_time_is_waited_for(worker: StartWorker, tmp_path: Path) -> None:
    job_id = enqueue_by_name("late_module.greet")
    start(worker, tmp_path, "import time; time.sleep(0.7)", LONG_JOB=0.05, RUNNING_AFTER=0.1)
    assert wait_for_end([job_id]) == ["succeeded"]
    assert attempts(job_id) == ["succeeded"]


WAIT = """
import time
while not os.path.exists({folder!r} + "/go"): time.sleep(0.01)
"""


@pytest.mark.parametrize("what", [WAIT, HANG], ids=["ends in time", "hangs"])
def test_a_job_that_is_cancelled_while_its_module_is_imported_does_not_begin(
    worker: StartWorker, tmp_path: Path, what: str
) -> None:
    job_id = enqueue_by_name("late_module.greet")
    more = {} if what == WAIT else {"CANCEL_GRACE": 0.3}
    process = start(worker, tmp_path, what.format(folder=str(tmp_path)), **more)
    child = the_one(process)
    wait_for_lines(tmp_path, "imported")
    assert operate.cancel([job_id]).requested == [job_id]
    if what == WAIT:
        (tmp_path / "go").touch()
    assert wait_for_end([job_id]) == ["cancelled"]
    assert Job.objects.get(pk=job_id).deaths == 0 and not DeadLetter.objects.exists()
    assert wait_for_end([tasks.noop.enqueue().id]) == ["succeeded"]
    assert (the_one(process) == child) is (what == WAIT)


def test_no_module_outside_the_installed_apps_is_imported(worker: StartWorker, tmp_path: Path) -> None:
    """A row names it; that must not be enough to have code run."""
    job_id = enqueue_by_name("late_module.greet")
    process = start(worker, tmp_path, KILL, allowed=False)
    process.wait_for(f"Job {job_id} waits for a worker that knows its task.")
    assert "not part of an installed app" in process.output()
    assert "'late_module' to TASK_MODULES" in process.output(), "the remedy"
    assert wait_for_end([tasks.noop.enqueue().id]) == ["succeeded"]
    assert lines(tmp_path, "imported") == []
    assert Job.objects.get(pk=job_id).state == "queued"
    assert process.stop() == 0


def test_who_was_set_aside_and_kills_is_quarantined_as_well(worker: StartWorker, tmp_path: Path) -> None:
    """A child looks before its first claim for what others have set aside. It must not die of that look."""
    ids = [enqueue_by_name("late_module.greet") for _ in range(2)]
    old = start(worker, tmp_path, KILL, allowed=False)
    wait_until(lambda: len(waiting_for_task(Job.objects.all())) == 2, 60, "both are set aside")
    assert old.stop() == 0
    start(worker, tmp_path, KILL)
    assert wait_for_end([*ids, tasks.noop.enqueue().id]) == ["failed"] * 2 + ["succeeded"]
    assert [attempts(job_id) for job_id in ids] == [["lost"] * 2] * 2
