"""Who may do what over the API: every route of the URL resolver, for whoever may come."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.urls import get_resolver
from rest_framework.test import APIClient

from queue_app import clock
from queue_app.api.errors import not_found
from queue_app.domain.rights import Right
from queue_app.models import AuditEvent, Job, Queue, Schedule
from queue_app.queries.payload import MASK
from tests.support.factories import (
    AuditEventFactory,
    JobFactory,
    QueueFactory,
    ScheduleFactory,
    WorkerFactory,
)

pytestmark = pytest.mark.django_db

V1 = "/api/v1/"
NEW = {"name": "new", "task": "tests.app.tasks.noop", "cron": "@daily"}

#: (address without its ids, method) → the right that it needs, and the body of a request that is right.
ROUTES: dict[tuple[str, str], tuple[Right, Any]] = {
    ("jobs/", "get"): (Right.VIEW_JOB, None),
    ("jobs/", "post"): (Right.SUBMIT_JOB, {"task": "tests.app.tasks.noop"}),
    ("jobs/cancel/", "post"): (Right.OPERATE_JOB, {"queue": "mail"}),
    ("jobs/{job}/", "get"): (Right.VIEW_JOB, None),
    ("jobs/{waiting}/cancel/", "post"): (Right.OPERATE_JOB, {}),
    ("dead-letters/", "get"): (Right.VIEW_DEADLETTER, None),
    ("dead-letters/replay/", "post"): (Right.REPLAY_DEADLETTER, {}),
    ("dead-letters/{letter}/", "get"): (Right.VIEW_DEADLETTER, None),
    ("dead-letters/{letter}/requeue/", "post"): (Right.REPLAY_DEADLETTER, {}),
    ("queues/", "get"): (Right.VIEW_QUEUE, None),
    ("queues/{queue}/", "get"): (Right.VIEW_QUEUE, None),
    ("queues/{queue}/pause/", "post"): (Right.OPERATE_QUEUE, {}),
    ("queues/{queue}/resume/", "post"): (Right.OPERATE_QUEUE, {}),
    ("stats/", "get"): (Right.VIEW_QUEUE, None),
    ("schedules/", "get"): (Right.VIEW_SCHEDULE, None),
    ("schedules/", "post"): (Right.MANAGE_SCHEDULE, NEW),
    ("schedules/{schedule}/", "get"): (Right.VIEW_SCHEDULE, None),
    ("schedules/{schedule}/", "patch"): (Right.MANAGE_SCHEDULE, {"jitter": 3}),
    ("schedules/{schedule}/", "delete"): (Right.MANAGE_SCHEDULE, {}),
    ("schedules/{schedule}/pause/", "post"): (Right.MANAGE_SCHEDULE, {}),
    ("schedules/{schedule}/resume/", "post"): (Right.MANAGE_SCHEDULE, {}),
    ("schedules/{schedule}/run/", "post"): (Right.MANAGE_SCHEDULE, {}),
    ("schedules/{schedule}/upcoming/", "get"): (Right.VIEW_SCHEDULE, None),
    ("duties/", "get"): (Right.VIEW_WORKER, None),
    ("workers/", "get"): (Right.VIEW_WORKER, None),
    ("workers/{worker}/", "get"): (Right.VIEW_WORKER, None),
    ("audit/", "get"): (Right.VIEW_AUDITEVENT, None),
    ("audit/{event}/", "get"): (Right.VIEW_AUDITEVENT, None),
}
every_route = pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route[1]} {route[0]}")


def routes() -> Iterator[tuple[str, str]]:
    """Name of each route below the API's root, and each method that it takes."""
    (root,) = [one for one in get_resolver().url_patterns if str(one.pattern) == "api/v1/"]
    for pattern in root.url_patterns:  # type: ignore[union-attr]
        if pattern.callback is not_found:
            continue
        methods = getattr(pattern.callback, "actions", None) or {"get": "root"}
        for method in methods:
            yield pattern.name, method


def test_every_route_is_listed_here() -> None:
    from django.urls import resolve

    things = dict.fromkeys(WORDS, "01900000-0000-7000-8000-000000000000")
    listed = sorted((resolve(V1 + address.format(**things)).url_name, method) for address, method in ROUTES)
    found = sorted((name, method) for name, method in routes() if name != "api-root" and method != "head")
    assert found == listed


WORDS = ("job", "waiting", "letter", "queue", "schedule", "worker", "event")


def address_of(route: tuple[str, str]) -> str:
    job = JobFactory(state="failed", payload='[["4111"],{"card":"4222"}]')
    things = {
        "job": job.pk,
        "waiting": JobFactory().pk,
        "letter": job.dead_letters.get().pk,
        "queue": QueueFactory(name="mail").pk,
        "schedule": ScheduleFactory(arguments='[["4111"],{}]').pk,
        "worker": WorkerFactory().pk,
        "event": AuditEventFactory(at=clock.now()).pk,
    }
    assert set(things) == set(WORDS)
    return V1 + route[0].format(**things)


def client_of(user: Any) -> APIClient:
    client = APIClient()
    if not isinstance(user, AnonymousUser):
        client.force_login(user)
    return client


def staff(*rights: str) -> User:
    user = User.objects.create_user("clerk", is_staff=True)
    names = [right.partition(".")[2] for right in rights]
    user.user_permissions.set(
        Permission.objects.filter(content_type__app_label="queue_app", codename__in=names)
    )
    return user


def changed() -> list[Any]:
    return [
        list(Job.objects.order_by("pk").values_list("pk", "state")),
        list(Queue.objects.values()),
        list(Schedule.objects.values()),
        AuditEvent.objects.count(),
    ]


@every_route
def test_a_route_asks_for_its_right(route: tuple[str, str]) -> None:
    right, body = ROUTES[route]
    address = address_of(route)
    every = Permission.objects.filter(content_type__app_label="queue_app")
    others = every.exclude(codename=right.partition(".")[2])
    clerk = staff(*[f"queue_app.{one.codename}" for one in others])
    before = changed()

    def ask(user: Any) -> Any:
        return getattr(client_of(user), route[1])(address, body, format="json")

    assert ask(AnonymousUser()).status_code == 401
    denied = ask(clerk)
    assert denied.status_code == 403 and denied.json() == {"detail": f"You need the right {right} for this."}
    guest = User.objects.create_user("guest")
    guest.user_permissions.set(every)
    assert ask(guest).status_code == 403, "no staff, whatever the rights"
    assert changed() == before
    clerk.user_permissions.set(every.filter(codename=right.partition(".")[2]))
    answer = ask(clerk)
    assert answer.status_code in (200, 201, 202, 204), answer.content
    assert "4111" not in answer.content.decode() and "4222" not in answer.content.decode()


@every_route
def test_superusers_may_everything(route: tuple[str, str], boss: User) -> None:
    address = address_of(route)
    answer = getattr(client_of(boss), route[1])(address, ROUTES[route][1], format="json")
    assert answer.status_code in (200, 201, 202, 204), answer.content


@pytest.mark.parametrize("right", Right)
def test_a_single_right_opens_its_routes_and_no_other(right: Right) -> None:
    client = client_of(staff(right))
    for route, (needed, body) in ROUTES.items():
        if needed is not right:
            answer = getattr(client, route[1])(
                V1 + route[0].format(**dict.fromkeys(WORDS, "x")), body, format="json"
            )
            assert answer.status_code == 403, route


def test_staff_without_rights_sees_the_addresses_alone() -> None:
    client = client_of(staff())
    assert list(client.get(V1).json()) == [
        "jobs",
        "dead-letters",
        "queues",
        "stats",
        "schedules",
        "duties",
        "workers",
        "audit",
    ]
    for address in client.get(V1).json().values():
        assert client.get(address).status_code == client.options(address).status_code == 403


# What is seen


def test_payload_is_masked_without_its_right() -> None:
    payload, meta = '[["4111"],{"card":"4222"}]', '{"card":"4444"}'
    job = JobFactory(state="failed", payload=payload, result='"4333"', meta=meta)
    clerk = staff(Right.VIEW_JOB)
    page = f"{V1}jobs/{job.pk}/"
    text = client_of(clerk).get(page).content.decode()
    body = client_of(clerk).get(page).json()
    assert not any(secret in text for secret in ("4111", "4222", "4333", "4444", "Traceback"))
    assert {body[name] for name in ("args", "kwargs", "result")} == {MASK}
    assert body["meta"] == {"card": MASK}
    assert [one["traceback"] for one in body["attempts"]] == [MASK, MASK]
    assert Right.VIEW_PAYLOAD in body["masked"]
    clerk.user_permissions.add(Permission.objects.get(codename="view_payload"))
    body = client_of(clerk).get(page).json()
    assert (body["args"], body["kwargs"], body["result"]) == (["4111"], {"card": "4222"}, "4333")
    assert body["meta"] == {"card": "4444"}
    assert "Traceback" in body["attempts"][0]["traceback"] and body["masked"] is None


def test_arguments_of_a_schedule_are_masked_too() -> None:
    schedule = ScheduleFactory(arguments='[["4111"],{}]')
    clerk = staff(Right.VIEW_SCHEDULE, Right.MANAGE_SCHEDULE)
    page = f"{V1}schedules/{schedule.pk}/"
    body = client_of(clerk).patch(page, {"kwargs": {"x": 1}}, format="json").json()
    assert (body["args"], body["kwargs"]) == (MASK, MASK) and Right.VIEW_PAYLOAD in body["masked"]
    schedule.refresh_from_db()
    assert (schedule.args, schedule.kwargs) == (["4111"], {"x": 1}), "what was not given stayed"


def test_who_may_act_and_not_look_is_told_where_alone() -> None:
    job = JobFactory()
    client = client_of(staff(Right.OPERATE_JOB, Right.SUBMIT_JOB))
    body = client.post(f"{V1}jobs/{job.pk}/cancel/", {}, format="json").json()
    assert set(body) == {"id", "url", "state", "status"} and body["state"] == "cancelled"
    answer = client.post(f"{V1}jobs/", {"task": "tests.app.tasks.noop", "args": [1]}, format="json")
    assert answer.status_code == 201 and set(answer.json()) == {"id", "url", "state", "status"}


def test_without_the_right_nothing_is_told_of_what_there_is() -> None:
    client = client_of(staff())
    for address, body in (("jobs/", {"task": "no.such.task"}), ("schedules/", {})):
        assert client.post(V1 + address, body, format="json").status_code == 403
    missing = client.post(
        f"{V1}dead-letters/01900000-0000-7000-8000-000000000000/requeue/", {}, format="json"
    )
    assert missing.status_code == 403
