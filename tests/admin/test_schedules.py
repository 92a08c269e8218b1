"""Schedules in the admin: written, looked at, paused, resumed and run by those who may."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from queue_app import clock
from queue_app.models import Job, Schedule
from tests.support.admin_pages import act, url
from tests.support.factories import ScheduleFactory

pytestmark = pytest.mark.django_db

FIELDS = {
    "name": "report",
    "task": "tests.app.tasks.noop",
    "arguments": '[[1], {"x": 2}]',
    "cron": "30 6 * * MON-FRI",
    "zone": "Europe/Berlin",
    "jitter": "0",
    "missed": "once",
    "queue": "",
    "priority": "",
}


def said(answer: Any) -> list[str]:
    return [str(message) for message in answer.context["messages"]]


def clerk(*permissions: str) -> Client:
    user = User.objects.create_user("clerk", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def test_a_schedule_is_written_and_shows_its_next_runs(
    pages: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    friday = datetime.fromisoformat("2026-10-23T12:00:00+00:00")
    monkeypatch.setattr(clock.current, "source", friday.timestamp)
    answer = pages.post(url(Schedule, "add"), FIELDS, follow=True)
    assert len(said(answer)) == 1 and "was added successfully" in said(answer)[0]
    found = Schedule.objects.get()
    assert (found.args, found.kwargs, found.queue, found.priority) == ([1], {"x": 2}, None, None)
    text = pages.get(url(Schedule, "change", found.pk)).content.decode()
    days = ["Mon 2026-10-26", "Tue 2026-10-27", "Wed 2026-10-28", "Thu 2026-10-29", "Fri 2026-10-30"]
    for day in days:  # the clocks are put back on the Sunday before
        assert f"<div>{day} 06:30 CET</div>" in text
    assert "2026-10-26 06:30 CET" in pages.get(url(Schedule)).content.decode()


@pytest.mark.parametrize(
    "arguments,task", [('[["4111"],{}]', "tests.app.tasks.noop"), ("[[],{}]", "tests.app.tasks.echo")]
)
def test_arguments_that_are_masked_go_to_no_other_task(arguments: str, task: str) -> None:
    schedule = ScheduleFactory(task="tests.app.tasks.noop", arguments=arguments)
    client = clerk("view_schedule", "manage_schedule")
    fields = {name: value for name, value in FIELDS.items() if name != "arguments"}
    client.post(
        url(Schedule, "change", schedule.pk), fields | {"task": "tests.app.tasks.echo", "jitter": "7"}
    )
    found = Schedule.objects.get()
    assert (found.task, found.arguments, found.jitter) == (task, arguments, 7)


@pytest.mark.parametrize(
    "field,value,said",
    [
        ("cron", "30 25 * * *", "bad hour"),
        ("zone", "Europe/Berln", "Did you mean &#x27;Europe/Berlin&#x27;"),
        ("arguments", "{}", "positional and the keyword arguments"),
        ("task", "report", "dotted path"),
        ("queue", "no queue!", "starts with a letter or digit"),
        ("priority", "101", "-100 to 100"),
        ("jitter", "-1", "greater than or equal to 0"),
        ("name", "a\tb", "can be seen"),
        ("missed", "often", "not one of the available choices"),
    ],
)
def test_what_is_wrong_is_answered_at_its_field(pages: Client, field: str, value: str, said: str) -> None:
    answer = pages.post(url(Schedule, "add"), FIELDS | {field: value})
    errors = answer.context["adminform"].form.errors
    assert list(errors) == [field] and said in str(errors[field])
    assert not Schedule.objects.exists()


def test_a_task_that_is_not_known_here_is_said_and_allowed(pages: Client) -> None:
    answer = pages.post(url(Schedule, "add"), FIELDS | {"task": "newer.release.task"}, follow=True)
    assert "will wait for a worker that knows it" in said(answer)[0]
    assert Schedule.objects.get().task == "newer.release.task"
    answer = pages.post(
        url(Schedule, "add"), FIELDS | {"name": "two", "task": "antigravity.fly"}, follow=True
    )
    assert "not part of an installed app" in said(answer)[0], "and nothing is imported for it"


def test_editing_changes_what_was_edited_alone(pages: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from queue_app.admin.schedules import ScheduleAdmin

    pages.post(url(Schedule, "add"), FIELDS)
    schedule = Schedule.objects.get()
    last, next_at = clock.now() - timedelta(hours=1), clock.now() + timedelta(days=9)

    def meanwhile(self: Any, *args: Any, _save: Any = ScheduleAdmin.save_model, **more: Any) -> None:
        Schedule.objects.update(priority=5, last_at=last, next_at=next_at)
        _save(self, *args, **more)

    monkeypatch.setattr(ScheduleAdmin, "save_model", meanwhile)
    page = url(Schedule, "change", schedule.pk)
    assert pages.post(page, FIELDS | {"jitter": "7"}).status_code == 302
    found = Schedule.objects.get()
    assert (found.jitter, found.priority, found.last_at, found.next_at) == (7, 5, last, next_at)
    monkeypatch.undo()
    assert pages.post(page, FIELDS | {"jitter": "7", "priority": "5", "cron": "@hourly"}).status_code == 302
    assert Schedule.objects.get().next_at < next_at


def test_pausing_in_the_form_and_by_action(pages: Client) -> None:
    pages.post(url(Schedule, "add"), FIELDS)
    schedule = Schedule.objects.get()
    page = url(Schedule, "change", schedule.pk)
    assert pages.post(page, FIELDS | {"paused": "on"}).status_code == 302
    assert Schedule.objects.get().next_at is None
    assert "if it were not paused:" in pages.get(page).content.decode()
    assert pages.post(page, FIELDS).status_code == 302
    assert Schedule.objects.get().next_at is not None
    pages.get(url(Schedule))  # shows what was said so far
    other = ScheduleFactory(name="other", paused=True)
    both = [schedule.pk, other.pk]
    assert act(pages, Schedule, "pause_schedules", both) == ["Paused: report."]
    assert act(pages, Schedule, "pause_schedules", both) == ["Paused: none."]
    assert act(pages, Schedule, "resume_schedules", both) == ["Resumed: other, report."]


def test_run_now_links_to_its_job_and_one_that_is_broken_stops_no_other(pages: Client) -> None:
    good, broken = ScheduleFactory(name="b"), ScheduleFactory(name="a")
    Schedule.objects.filter(pk=broken.pk).update(arguments="[", error="ValueError: <b>")
    answers = act(pages, Schedule, "run_schedules", [good.pk, broken.pk])
    assert answers[0].startswith("a: arguments is not JSON")
    assert answers[1] == "Enqueued a run of: b."
    assert url(Job, "change", Job.objects.get().pk) in answers[2]
    assert "ValueError: &lt;b&gt;" in pages.get(url(Schedule)).content.decode()


def test_pages_of_one_that_is_broken(pages: Client) -> None:
    schedule = ScheduleFactory()
    Schedule.objects.filter(pk=schedule.pk).update(cron="nonsense", zone="Mars", last_at=clock.now())
    assert "zone is &#x27;Mars&#x27;" in pages.get(url(Schedule, "change", schedule.pk)).content.decode()
    assert "UTC" in pages.get(url(Schedule)).content.decode()


@pytest.mark.parametrize(
    "granted",
    [None, "view_schedule", "manage_schedule", "add_schedule", "change_schedule", "delete_schedule"],
)
def test_who_may_do_what(granted: str | None) -> None:
    names = ["view_schedule", granted] if granted == "manage_schedule" else [granted] if granted else []
    client, may = clerk(*names), granted == "manage_schedule"
    schedule = ScheduleFactory(name="mine", cron="0 * * * *")
    page = url(Schedule, "change", schedule.pk)
    seen = granted in ("view_schedule", "manage_schedule")
    assert client.get(page).status_code == (200 if seen else 403)
    changed = client.post(page, FIELDS)
    assert changed.status_code == (302 if may else 403)
    assert Schedule.objects.get().name == ("report" if may else "mine")
    assert client.post(url(Schedule, "add"), FIELDS | {"name": "new"}).status_code == (302 if may else 403)
    client.post(
        url(Schedule), {"action": "run_schedules", "_selected_action": [str(schedule.pk)], "index": 0}
    )
    assert Job.objects.count() == may
    deleted = client.post(url(Schedule, "delete", schedule.pk), {"post": "yes"})
    assert deleted.status_code == (302 if may else 403)
