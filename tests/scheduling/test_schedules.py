"""Schedules: what their jobs are like, pausing and editing, what is refused, and what is broken and stops nobody."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from queue_app import signals
from queue_app.exceptions import InvalidJob, InvalidOption
from queue_app.models import Job, Schedule
from queue_app.scheduling import schedules, tick
from queue_app.tasks_api import compat
from tests.app import dtasks, tasks
from tests.support.factories import QueueFactory, ScheduleFactory
from tests.support.schedules import At, moment, row, write

pytestmark = pytest.mark.django_db


@pytest.fixture
def at(at: At) -> At:
    """Set the clock to a time of 2026-11-22 in UTC; it says 11:00 at first."""
    at("11:00:00")
    return at


@pytest.fixture
def heard() -> Any:
    """What the signal `schedule_failed` says, as (name, error)."""
    found: list[tuple[str, str]] = []

    def hear(sender: object, schedule: str, error: str, **more: Any) -> None:
        found.append((schedule, error))

    signals.schedule_failed.connect(hear)
    yield found
    signals.schedule_failed.disconnect(hear)


# what their jobs are like


@pytest.mark.parametrize("task", ["tests.app.tasks.mail_options", "tests.app.dtasks.echo"])
def test_a_job_is_made_as_the_task_would_make_it(at: At, monkeypatch: pytest.MonkeyPatch, task: str) -> None:
    mine = tasks.noop.using(queue_name="post", priority=20, max_attempts=7, timeout=9)
    monkeypatch.setattr(tasks, "mail_options", mine, raising=False)
    known = mine if "mail" in task else dtasks.echo
    ScheduleFactory(task=task, arguments='[[1],{"a":"b"}]')
    ScheduleFactory(task=task, queue="other", priority=-7)
    at("12:00:00")
    assert tick.enqueue_due().jobs == 2
    made = list(Job.objects.order_by("pk"))
    expected = [
        Job.objects.get(pk=job.id)
        for job in (
            known.enqueue(1, a="b"),
            known.using(queue_name="other", priority=-7).enqueue(),
        )
    ]
    for name in ("task", "queue", "priority", "max_attempts", "timeout", "backend", "payload"):
        found = {getattr(job, name) for job in made}
        assert found == {getattr(job, name) for job in expected}, name


def test_a_task_that_nobody_here_knows_is_enqueued_and_waits(at: At) -> None:
    QueueFactory(name="default", max_attempts=9)
    schedule = ScheduleFactory(task="newer.release.task")
    ScheduleFactory(task="newer.release.task", queue="mail", priority=5)
    at("12:00:00")
    assert tick.enqueue_due().jobs == 2
    assert row(schedule).error == ""
    found = Job.objects.values_list("task", "queue", "priority", "max_attempts", "timeout", "backend")
    assert set(found) == {
        ("newer.release.task", "default", 0, 9, None, ""),
        ("newer.release.task", "mail", 5, 4, None, ""),
    }


# pausing and editing


def test_what_a_pause_would_have_run_is_not_made_up_for(at: At) -> None:
    schedule = ScheduleFactory(missed="all", cron="*/5 * * * *")
    assert schedules.pause(schedule).next_at is None
    at("11:30:00")
    assert tick.enqueue_due().jobs == 0
    schedules.resume(schedule)
    assert row(schedule).next_at == moment("11:35:00")
    assert tick.enqueue_due().jobs == 0


def test_a_tick_that_was_enqueued_ahead_does_not_come_twice(at: At) -> None:
    schedule = ScheduleFactory()
    at("11:59:55")
    assert tick.enqueue_due().jobs == 1
    schedules.pause(Schedule.objects.get())
    schedules.resume(schedule)  # this one has not heard of the tick
    assert row(schedule).next_at == moment("13:00:00")
    again = row(schedule)
    again.cron = "0 */2 * * *"
    again.save()
    assert row(schedule).next_at == moment("14:00:00")
    assert tick.enqueue_due().jobs == 0


def test_an_edit_on_a_host_whose_clock_is_behind_repeats_no_tick(at: At) -> None:
    """The leader's clock is half a minute fast: it has enqueued 12:00 already."""
    schedule = ScheduleFactory()
    write(schedule, next_at=moment("13:00:00"), last_at=moment("12:00:00"))
    at("11:59:20")
    edited = row(schedule)
    edited.cron = "*/30 * * * *"
    edited.save()
    assert row(schedule).next_at == moment("12:30:00")


def test_no_module_outside_the_installed_apps_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could hang, or end, the leader or the web server."""
    (tmp_path / "outside.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    job_id = schedules.run_now(ScheduleFactory(task="outside.thing"))
    assert Job.objects.get(pk=job_id).state == "queued"
    assert "outside" not in sys.modules


def test_after_a_clock_that_was_wrong_a_pause_puts_it_right(at: At) -> None:
    schedule = ScheduleFactory()
    write(schedule, next_at=moment("23:00:00"), last_at=moment("22:00:00"))
    schedules.pause(schedule)
    schedules.resume(schedule)
    assert row(schedule).next_at == moment("12:00:00")


@pytest.mark.parametrize(
    "change,expected",
    [
        ({"cron": "30 * * * *"}, "11:30:00"),
        ({"zone": "Asia/Kolkata"}, "11:30:00"),  # half an hour beside the others
        ({"jitter": 5, "priority": 3, "queue": "mail"}, "12:00:00"),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_an_edit_finds_the_next_tick(at: At, change: dict[str, Any], expected: str, whole: bool) -> None:
    schedule = ScheduleFactory()
    for name, value in change.items():
        setattr(schedule, name, value)
    schedule.save(**({} if whole else {"update_fields": list(change)}))
    found = row(schedule)
    assert found.next_at == moment(expected)
    assert {name: getattr(found, name) for name in change} == change


def test_what_was_read_long_ago_does_not_move_a_schedule_back(at: At) -> None:
    stale = ScheduleFactory(cron="*/5 * * * *")
    at("11:05:00")
    assert tick.enqueue_due().jobs == 1
    stale.priority = 9
    stale.save()
    found = row(stale)
    assert (found.priority, found.next_at, found.last_at) == (9, moment("11:10:00"), moment("11:05:00"))
    assert found.last_job_id == Job.objects.get().pk
    stale.next_at = moment("11:05:00")
    stale.save(update_fields=["next_at", "jitter"])
    assert row(stale).next_at == moment("11:10:00"), "not even if somebody insists"
    assert tick.enqueue_due().jobs == 0


def test_a_partial_save_does_not_take_what_it_does_not_write_from_the_object(at: At) -> None:
    schedule = ScheduleFactory()
    schedule.cron = "30 * * * *"
    schedule.save(update_fields=["zone"])
    found = row(schedule)
    assert (found.cron, found.next_at) == ("0 * * * *", moment("12:00:00"))


def test_a_run_now_does_not_touch_the_ticks(at: At) -> None:
    told: list[tuple[str, Any, dict[str, str]]] = []

    def hear(sender: object, verb: str, user: Any, filter: dict[str, str], **more: Any) -> None:
        told.append((verb, user, filter))

    schedule = ScheduleFactory(name="report", arguments="[[4],{}]", queue="mail", jitter=60)
    signals.operated.connect(hear)
    try:
        job = Job.objects.get(pk=schedules.run_now(schedule, user="ada"))
        schedules.pause(schedule, user="bob")
        schedules.run_now(schedule)
        schedules.resume(schedule)
    finally:
        signals.operated.disconnect(hear)
    assert (job.args, job.queue, job.run_after) == ([4], "mail", None)
    found = row(schedule)
    assert (found.next_at, found.last_at, found.last_job_id) == (moment("12:00:00"), None, None)
    verbs = [
        ("run schedule", "ada"),
        ("pause schedule", "bob"),
        ("run schedule", None),
        ("resume schedule", None),
    ]
    assert told == [(verb, user, {"schedule": "report"}) for verb, user in verbs]


# broken


@pytest.mark.parametrize(
    "values,said",
    [
        ({"cron": "whenever"}, "cron is 'whenever'"),
        ({"zone": "Mars/Phobos"}, "zone is 'Mars/Phobos'"),
        ({"arguments": "[1"}, "arguments is not JSON"),
        ({"arguments": '{"a": 1}'}, "arguments is not JSON"),
        ({"queue": "no queue!"}, "queue_name is 'no queue!'"),
        ({"arguments": "[[" + "1," * 200_000 + "1],{}]"}, "PAYLOAD_LIMIT"),
        ({"task": "tests.app.dtasks.elsewhere"}, "is not this queue"),
        ({"task": "nobody.knows", "queue": "no queue!"}, "queue_name is 'no queue!'"),
    ],
)
def test_one_that_is_broken_stops_no_other(
    at: At,
    heard: list[Any],
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    values: dict[str, Any],
    said: str,
) -> None:
    settings.TASKS = settings.TASKS | {"elsewhere": {"BACKEND": f"{compat.ROOT}.backends.dummy.DummyBackend"}}
    monkeypatch.setattr(
        dtasks, "elsewhere", dtasks.task(backend="elsewhere")(dtasks.noop.func), raising=False
    )
    broken = ScheduleFactory(name="broken", cron="0 * * * *")
    good = ScheduleFactory.create_batch(2)
    write(broken, **values)
    at("12:00:00")
    assert tick.enqueue_due().jobs == 2
    assert {row(one).next_at for one in good} == {moment("13:00:00")}
    found = row(broken)
    assert said in found.error and found.next_at == moment("12:00:00"), "it keeps its place"
    assert tick.enqueue_due().jobs == 0
    assert heard == [("broken", found.error)], "said once"

    write(broken, cron="0 * * * *", zone="UTC", arguments="[[],{}]", queue=None, task="tests.tasks.noop")
    assert tick.enqueue_due().jobs == 1, "and what it missed is not lost"
    assert (row(broken).error, row(broken).next_at) == ("", moment("13:00:00"))


def test_one_that_the_projects_own_code_refuses_stops_no_other(at: At, heard: list[Any]) -> None:
    def refuse(sender: object, task_result: Any, **more: Any) -> None:
        raise RuntimeError("not on Sundays")

    refused = ScheduleFactory(task="tests.app.dtasks.noop")
    ScheduleFactory.create_batch(2)
    at("12:00:00")
    enqueued = compat.signals().task_enqueued
    enqueued.connect(refuse)
    try:
        assert tick.enqueue_due().jobs == 2
        with pytest.raises(InvalidJob, match="not on Sundays"):
            schedules.run_now(refused)
    finally:
        enqueued.disconnect(refuse)
    assert Job.objects.count() == 2, "its own row was taken back"
    assert row(refused).error == "RuntimeError: not on Sundays"
    assert [name for name, _ in heard] == [refused.name]


def test_one_that_is_broken_can_be_paused_and_mended(at: At) -> None:
    schedule = ScheduleFactory()
    write(schedule, cron="whenever")
    at("12:00:00")
    tick.enqueue_due()
    broken = row(schedule)
    assert broken.error
    schedules.pause(broken)
    with pytest.raises(InvalidOption, match="cron is"):
        schedules.resume(row(schedule))
    assert row(schedule).paused
    mended = row(schedule)
    mended.cron = "0 * * * *"
    mended.save()
    assert (row(schedule).error, row(schedule).next_at) == ("", None)
    assert schedules.resume(mended).next_at == moment("13:00:00")
