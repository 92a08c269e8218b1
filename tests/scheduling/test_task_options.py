"""What a leader knows of a scheduled task whose module it has not imported: the options that were kept with it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from queue_app import clock
from queue_app.models import Job, Schedule
from queue_app.scheduling import schedules, tick
from queue_app.tasks import registry
from queue_app.tasks_api import compat
from tests.support.factories import ScheduleFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Any:
    """The module `late`, with tasks of both kinds and options of their own; returns what forgets that it was imported,
    so that this process stands for another one."""
    text = (
        "from queue_app import task\nfrom tests.app import dtasks\n"
        "@task(queue_name='post', priority=20, max_attempts=7, timeout=9)\ndef mine(): pass\n"
        "@dtasks.task(queue_name='mail', priority=10)\ndef standard(): pass\n"
        "@dtasks.task(backend='elsewhere')\ndef foreign(): pass\n"
    )
    (tmp_path / "late.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    dummy = {"BACKEND": f"{compat.ROOT}.backends.dummy.DummyBackend"}
    ours = settings.TASKS["default"] | {"OPTIONS": {"max_attempts": 6, "timeout": 30}}
    settings.TASKS = {"default": ours, "elsewhere": dummy}
    settings.QUEUE_APP = settings.QUEUE_APP | {"TASK_MODULES": ["late"]}

    def forget() -> None:
        monkeypatch.delitem(sys.modules, "late", raising=False)
        registry.reset()

    yield forget
    forget()


@pytest.mark.parametrize("name", ["mine", "standard"])
def test_a_leader_that_has_not_imported_the_task_makes_the_same_jobs(
    late: Callable[[], None], name: str
) -> None:
    ScheduleFactory(task=f"late.{name}")
    ScheduleFactory(task=f"late.{name}", queue="other", priority=-7)
    expected = [registry.look_up(f"late.{name}").task.enqueue()]
    expected += [registry.look_up(f"late.{name}").task.using(queue_name="other", priority=-7).enqueue()]
    late()
    Schedule.objects.update(next_at=clock.now())
    assert tick.enqueue_due().jobs == 2
    assert "late" not in sys.modules
    known = {str(result.id) for result in expected}
    for field in ("task", "queue", "priority", "max_attempts", "timeout", "backend", "payload"):
        found: dict[bool, set[Any]] = {True: set(), False: set()}
        for job in Job.objects.all():
            found[str(job.pk) in known].add(getattr(job, field))
        assert found[False] == found[True], field


def test_nor_does_it_take_jobs_of_another_backend_for_ours(late: Callable[[], None]) -> None:
    ScheduleFactory(task="late.foreign")
    late()
    Schedule.objects.update(next_at=clock.now())
    assert tick.enqueue_due().jobs == 0
    assert "is not this queue" in Schedule.objects.get().error
    assert "late" not in sys.modules


@pytest.mark.parametrize("how", ["define", "save", "past all checks"])
def test_options_are_those_of_the_task_that_the_schedule_has(late: Callable[[], None], how: str) -> None:
    schedule = Schedule.objects.define("report", "tests.app.dtasks.echo", "0 * * * *")
    if how == "define":
        Schedule.objects.define("report", "late.mine", "0 * * * *")
    elif how == "save":
        schedule.task = "late.mine"
        schedule.save(update_fields=["task"])
    else:
        Schedule.objects.update(task="late.mine")
    late()
    Schedule.objects.update(next_at=clock.now())
    assert tick.enqueue_due().jobs == 1
    job = Job.objects.get()
    kept = ("post", 20, 7, "") if how != "past all checks" else ("default", 0, 4, "")
    assert (job.queue, job.priority, job.max_attempts, job.backend) == kept


def test_a_schedule_is_paused_and_run_now_without_an_import(late: Callable[[], None]) -> None:
    schedule = ScheduleFactory(task="late.mine")
    late()
    schedules.pause(schedule)
    job = Job.objects.get(pk=schedules.run_now(schedule))
    assert (job.queue, job.timeout) == ("post", 9)
    assert "late" not in sys.modules


def test_who_runs_one_by_hand_looks_up_what_was_not_kept(late: Callable[[], None]) -> None:
    ScheduleFactory(task="late.mine")
    Schedule.objects.update(task_options="")
    late()
    assert Job.objects.get(pk=schedules.run_now(Schedule.objects.get())).queue == "post"


@pytest.mark.parametrize(
    "kept", ["", "no JSON", "[]", '{"task": "late.mine"}', '{"task": "late.mine", "x": 1}']
)
def test_what_was_not_kept_is_the_default(late: Callable[[], None], kept: str) -> None:
    ScheduleFactory(task="late.mine")
    Schedule.objects.update(task_options=kept, next_at=clock.now())
    late()
    assert tick.enqueue_due().jobs == 1
    job = Job.objects.get()
    assert (job.queue, job.priority, job.max_attempts, job.backend) == ("default", 0, 4, "")
