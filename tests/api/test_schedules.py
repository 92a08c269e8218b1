"""Schedules in the REST API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission, User
from rest_framework.test import APIClient

from queue_app import clock, signals
from queue_app.models import Job, Schedule
from queue_app.scheduling import tick
from tests.support.clients import basic
from tests.support.factories import ScheduleFactory

pytestmark = pytest.mark.django_db

SCHEDULES = "/api/v1/schedules/"
BODY = {"name": "report", "task": "tests.app.tasks.noop", "cron": "30 6 * * *"}


def of(schedule: Schedule, verb: str = "") -> str:
    return f"{SCHEDULES}{schedule.pk}/{verb}"


@pytest.fixture(autouse=True)
def morning(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is six o'clock on the day on which Berlin puts its clocks back."""
    monkeypatch.setattr(clock.current, "source", datetime(2026, 10, 25, 6, tzinfo=UTC).timestamp)


def test_create_and_look(api: APIClient) -> None:
    answer = api.post(
        SCHEDULES, BODY | {"zone": "Europe/Berlin", "args": [1], "priority": "high", "jitter": 9}
    )
    body = answer.json()
    assert answer.status_code == 201 and answer["Location"] == body["url"]
    assert (body["args"], body["kwargs"], body["priority"], body["queue"]) == ([1], {}, 50, None)
    assert (body["missed"], body["jitter"], body["paused"], body["error"]) == ("once", 9, False, "")
    assert (body["next_at"], body["last_at"], body["task_known"]) == ("2026-10-26T05:30:00Z", None, True)
    assert api.get(answer["Location"]).json() == body
    (listed,) = api.get(SCHEDULES).json()["results"]
    assert listed == {k: v for k, v in body.items() if k not in ("args", "kwargs", "masked", "task_known")}


def test_a_task_of_another_release(api: APIClient) -> None:
    answer = api.post(SCHEDULES, BODY | {"task": "newer.release.task"})
    assert (answer.status_code, answer.json()["task_known"]) == (201, False)


def test_change_what_is_given(api: APIClient) -> None:
    schedule = ScheduleFactory(name="report", arguments='[[1],{"x":2}]')
    answer = api.patch(of(schedule), {"cron": "45 * * * *", "kwargs": {"y": 3}, "queue": "mail"})
    body = answer.json()
    assert answer.status_code == 200, body
    assert (body["args"], body["kwargs"], body["queue"], body["name"]) == ([1], {"y": 3}, "mail", "report")
    assert body["next_at"] == "2026-10-25T06:45:00Z"
    assert api.patch(of(schedule), {}).status_code == 200
    assert api.put(of(schedule), BODY).status_code == 405
    assert api.delete(of(schedule)).status_code == 204
    assert api.get(of(schedule)).status_code == api.delete(of(schedule)).status_code == 404


def test_pause_resume_run_and_who_did_it(api: APIClient) -> None:
    told: list[Any] = []
    schedule = ScheduleFactory()
    signals.operated.connect(
        lambda **event: told.append((event["verb"], str(event["user"]))), weak=False, dispatch_uid="t"
    )
    try:
        assert api.post(of(schedule, "pause/")).json()["next_at"] is None
        ran = api.post(of(schedule, "run/"))
        assert api.post(of(schedule, "resume/")).json()["next_at"] == "2026-10-25T07:00:00Z"
        assert api.patch(of(schedule), {"paused": True}).json()["next_at"] is None
        api.patch(of(schedule), {"paused": True, "jitter": 3})
    finally:
        signals.operated.disconnect(dispatch_uid="t")
    assert (ran.status_code, ran.json()["job"]) == (201, str(Job.objects.get().pk))
    assert api.get(ran["Location"]).json()["task"] == "tests.app.tasks.noop"
    verbs = ["pause schedule", "run schedule", "resume schedule", "pause schedule", "change schedule"]
    assert told == [(verb, "boss") for verb in verbs]


def test_upcoming(api: APIClient) -> None:
    schedule = ScheduleFactory(cron="30 2 * * *", zone="Europe/Berlin", paused=True)
    assert api.get(of(schedule, "upcoming/?count=2")).json() == {
        "paused": True,
        "upcoming": ["2026-10-26T02:30:00+01:00", "2026-10-27T02:30:00+01:00"],
    }
    assert len(api.get(of(schedule, "upcoming/")).json()["upcoming"]) == 5
    for count in ("0", "101", "x", "-1", "²"):
        assert list(api.get(of(schedule, f"upcoming/?count={count}")).json()) == ["count"]


def test_one_that_is_broken_can_be_seen_and_mended(api: APIClient) -> None:
    schedule = ScheduleFactory()
    Schedule.objects.filter(pk=schedule.pk).update(arguments="[", zone="Mars", next_at=clock.now())
    tick.enqueue_due()
    body = api.get(of(schedule)).json()
    assert "arguments is not JSON" in body["error"] and body["args"] is None
    assert api.post(of(schedule, "run/")).status_code == 409
    assert "zone is 'Mars'" in api.get(of(schedule, "upcoming/")).json()["detail"]
    assert "zone is 'Mars'" in api.patch(of(schedule), {"cron": "@daily"}).json()["detail"]
    assert Schedule.objects.get().cron == "0 * * * *"
    body = api.patch(of(schedule), {"args": [], "zone": "UTC"}).json()
    assert (body["error"], body["args"], body["kwargs"]) == ("", [], {})


@pytest.mark.parametrize(
    "field,value,said",
    [
        ("name", None, "Use text"),
        ("name", "", "blank"),
        ("name", "taken", "already exists"),
        ("task", "report", "dotted path"),
        ("cron", "* * * *", "has 4 fields"),
        ("zone", "Europe/Berln", "Did you mean"),
        ("args", {"a": 1}, "Use a list"),
        ("args", ["x" * 300_000], "PAYLOAD_LIMIT"),
        ("kwargs", [], "Use an object"),
        ("kwargs", {"a": "\x00"}, "U+0000"),
        ("queue", "no queue!", "queue_name is"),
        ("priority", "urgent", "critical, high"),
        ("priority", True, "a number or a name"),
        ("priority", 101, "-100 to 100"),
        ("jitter", "5", "whole number"),
        ("jitter", True, "whole number"),
        ("jitter", -1, "greater than or equal to 0"),
        ("missed", "often", "not a valid choice"),
        ("paused", "yes", "true or false"),
        ("crno", "x", "Did you mean 'cron'"),
    ],
)
def test_what_is_wrong_is_named(api: APIClient, field: str, value: Any, said: str) -> None:
    ScheduleFactory(name="taken")
    schedule = ScheduleFactory(name="mine")
    for answer in (
        api.post(SCHEDULES, BODY | {field: value}),
        api.patch(of(schedule), {field: value}),
    ):
        assert answer.status_code == 400, answer.content
        assert list(answer.json()) == [field] and said in answer.json()[field][0]
    assert Schedule.objects.count() == 2


def test_what_is_missing_is_named(api: APIClient) -> None:
    assert set(api.post(SCHEDULES, {}).json()) == {"name", "task", "cron"}
    assert api.post(SCHEDULES, []).status_code == 400
    assert api.post(f"{SCHEDULES}{uuid4()}/pause/").status_code == 404


def test_filters(api: APIClient) -> None:
    one = ScheduleFactory(name="one", paused=True)
    two = ScheduleFactory(name="two", task="tests.app.tasks.echo")

    def found(**query: str) -> list[str]:
        return [row["id"] for row in api.get(SCHEDULES, query).json()["results"]]

    assert found() == [str(two.pk), str(one.pk)]
    assert found(name="one") == found(paused="true") == [str(one.pk)]
    assert found(task="tests.app.tasks.echo") == found(paused="false") == [str(two.pk)]
    assert api.get(SCHEDULES, {"nmae": "one"}).status_code == 400
    assert api.get(SCHEDULES, {"paused": "maybe"}).status_code == 400


@pytest.mark.parametrize(
    "granted", ["", "manage_schedule", "add_schedule", "change_schedule", "delete_schedule"]
)
def test_all_changes_need_the_right_to_manage(granted: str) -> None:
    user = User.objects.create_user("clerk", password="secret", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename=granted))
    schedule = ScheduleFactory()
    client, who = APIClient(), basic("clerk", "secret")

    def may(method: str, path: str, body: Any = None) -> bool:
        answer = getattr(client, method)(path, body, format="json", **who)
        assert answer.status_code in (200, 201, 204, 403)
        return bool(answer.status_code != 403)

    for verb in ("", "upcoming/"):
        assert not may("get", of(schedule, verb)), "to look at them is another right"
    assert may("post", SCHEDULES, BODY) == (granted == "manage_schedule")
    for verb in ("pause/", "resume/", "run/"):
        assert may("post", of(schedule, verb), {}) == (granted == "manage_schedule")
    assert may("patch", of(schedule), {"jitter": 1}) == (granted == "manage_schedule")
    assert may("delete", of(schedule), {}) == (granted == "manage_schedule")
