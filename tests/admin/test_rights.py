"""Who may do what in the admin: every page of ours of the URL resolver, for whoever may come."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import get_resolver, reverse

from queue_app.domain.rights import Right
from queue_app.models import AuditEvent, DeadLetter, Job, Queue, Schedule
from queue_app.queries.payload import MASK
from tests.support.admin_pages import one_of_each, url
from tests.support.factories import JobFactory, QueueFactory, ScheduleFactory

pytestmark = pytest.mark.django_db

#: Pages that each model has, beside those that only redirect.
PAGES = ("add", "change", "changelist", "delete", "history")
#: Model → the right to look at its rows, and that to edit them by hand, if anybody may.
MODELS: dict[str, tuple[Right, Right | None]] = {
    "attempt": (Right.VIEW_ATTEMPT, None),
    "auditevent": (Right.VIEW_AUDITEVENT, None),
    "deadletter": (Right.VIEW_DEADLETTER, None),
    "job": (Right.VIEW_JOB, None),
    "queue": (Right.VIEW_QUEUE, Right.OPERATE_QUEUE),
    "schedule": (Right.VIEW_SCHEDULE, Right.MANAGE_SCHEDULE),
    "worker": (Right.VIEW_WORKER, None),
}
ROUTES = {f"queue_app_{model}_{page}" for model in MODELS for page in PAGES} | {"queue_app_worker_duties"}
#: Model, action, its right, and what it changes.
ACTIONS = [
    (Job, "cancel_jobs", Right.OPERATE_JOB),
    (Job, "replay_jobs", Right.REPLAY_DEADLETTER),
    (DeadLetter, "replay_letters", Right.REPLAY_DEADLETTER),
    (Queue, "pause_queues", Right.OPERATE_QUEUE),
    (Queue, "resume_queues", Right.OPERATE_QUEUE),
    (Queue, "delete_selected", Right.OPERATE_QUEUE),
    (Schedule, "pause_schedules", Right.MANAGE_SCHEDULE),
    (Schedule, "resume_schedules", Right.MANAGE_SCHEDULE),
    (Schedule, "run_schedules", Right.MANAGE_SCHEDULE),
    (Schedule, "delete_selected", Right.MANAGE_SCHEDULE),
]
FIELDS = {
    "name": "new",
    "task": "a.b",
    "arguments": "[[],{}]",
    "cron": "@daily",
    "zone": "UTC",
    "jitter": "0",
}
ADDED = {"queue": {"name": "new"}, "schedule": FIELDS | {"missed": "once"}}


def routes(patterns: Any) -> Iterator[str]:
    for pattern in patterns:
        if hasattr(pattern, "url_patterns"):
            yield from routes(pattern.url_patterns)
        elif (pattern.name or "").startswith("queue_app_"):
            yield pattern.name


def test_every_page_is_listed_here() -> None:
    (admin,) = [one for one in get_resolver().url_patterns if getattr(one, "app_name", "") == "admin"]
    assert set(routes(admin.url_patterns)) == ROUTES  # type: ignore[union-attr]


def staff(*rights: str, **more: Any) -> tuple[User, Client]:
    user = User.objects.create_user("clerk", is_staff=True, **more)
    grant(user, *rights)
    client = Client()
    client.force_login(user)
    return user, client


def grant(user: User, *rights: str) -> None:
    names = [right.partition(".")[2] for right in rights]
    user.user_permissions.set(
        Permission.objects.filter(content_type__app_label="queue_app", codename__in=names)
    )


def everything_but(*rights: str) -> list[str]:
    names = Permission.objects.filter(content_type__app_label="queue_app").values_list("codename", flat=True)
    return [f"queue_app.{name}" for name in names if f"queue_app.{name}" not in rights]


def pages_of(name: str, row: Any) -> Iterator[tuple[str, str]]:
    for page in PAGES:
        args = [row.pk] if page in ("change", "delete", "history") else []
        yield page, reverse(f"admin:queue_app_{name}_{page}", args=args)


@pytest.mark.parametrize("name", MODELS)
def test_pages_ask_for_their_rights(name: str) -> None:
    row = {model._meta.model_name: row for model, row in one_of_each().items()}[name]
    view, edit = MODELS[name]
    user, client = staff(*everything_but(view))
    for page, address in pages_of(name, row):
        assert Client().get(address).status_code == 302, page
        assert client.get(address).status_code == 403, page
    grant(user, view)
    for page, address in pages_of(name, row):
        wanted = 403 if page in ("add", "delete") else 200
        assert client.get(address).status_code == wanted, page
    grant(user, *everything_but(*([edit] if edit else [])))
    for page, address in pages_of(name, row):
        posted = client.post(address, {"post": "yes", **ADDED.get(name, {})})
        assert page in ("changelist", "history") or posted.status_code == 403, page
    assert type(row).objects.filter(pk=row.pk).exists()
    if edit is not None:
        grant(user, view, edit)
        for page, address in pages_of(name, row):
            assert client.get(address).status_code == 200, page
        assert client.post(url(type(row), "add"), ADDED[name]).status_code == 302
        assert client.post(url(type(row), "delete", row.pk), {"post": "yes"}).status_code == 302
        assert list(AuditEvent.objects.order_by("pk").values_list("verb", flat=True))[-2:] == [
            "create",
            "delete",
        ]


def test_superusers_see_all(pages: Client) -> None:
    rows = {model._meta.model_name: row for model, row in one_of_each().items()}
    for name, (_, edit) in MODELS.items():
        for page, address in pages_of(name, rows[name]):
            refused = edit is None and page in ("add", "delete")
            assert pages.get(address).status_code == (403 if refused else 200), (name, page)


def test_staff_without_rights_sees_nothing_of_ours() -> None:
    one_of_each()
    _, client = staff()
    assert "queue_app" not in client.get(reverse("admin:index")).content.decode()
    assert client.get(reverse("admin:queue_app_worker_duties")).status_code == 403


@pytest.mark.parametrize("model,action,right", ACTIONS)
def test_actions_ask_for_their_right(model: Any, action: str, right: Right) -> None:
    failed = JobFactory(state="failed")
    rows = {
        Job: JobFactory() if action == "cancel_jobs" else failed,
        DeadLetter: failed.dead_letters.get(),
        Queue: QueueFactory(paused=action == "resume_queues"),
        Schedule: ScheduleFactory(paused=action == "resume_schedules"),
    }
    data = {
        "action": action,
        "_selected_action": [str(rows[model].pk)],
        "index": 0,
        "post": "yes",
        "reason": "asked by Ada",
    }
    user, client = staff(*everything_but(right))
    assert action not in client.get(url(model)).content.decode()
    client.post(url(model), data)
    assert not AuditEvent.objects.exists() and not Job.objects.filter(state="cancelled").exists()
    assert type(rows[model]).objects.filter(pk=rows[model].pk).exists()
    grant(user, MODELS[model._meta.model_name][0], right)
    assert action in client.get(url(model)).content.decode()
    client.post(url(model), data)
    event = AuditEvent.objects.get()
    assert event.actor == "clerk"
    assert event.reason == "asked by Ada"


# What is seen

SECRETS = ("4111", "4222", "Traceback (most recent call last)", "4333")


def test_payload_is_masked_without_its_right() -> None:
    job = JobFactory(state="failed", payload='[["4111"],{}]', result='"4222"', meta='{"card":"4333"}')
    schedule = ScheduleFactory(arguments='[["4111"],{}]')
    user, client = staff(*everything_but("queue_app.view_payload"))
    addresses = [
        url(Job, "change", job.pk),
        url(type(job.attempts.last()), "change", job.attempts.last().pk),
        url(Schedule, "change", schedule.pk),
    ]
    for address in addresses:
        text = client.get(address).content.decode()
        assert not any(secret in text for secret in SECRETS) and "4111" not in text, address
        assert MASK in text and "queue_app.view_payload" in text, address
    grant(user, *everything_but())
    texts = [client.get(address).content.decode() for address in addresses]
    assert "4111" in texts[0] and "4222" in texts[0] and SECRETS[2] in texts[0] and "4333" in texts[0]
    assert SECRETS[2] in texts[1] and "4111" in texts[2] and MASK not in "".join(texts)


@pytest.mark.parametrize(
    "model,lookup",
    [
        (Job, "payload__contains"),
        (Job, "result__startswith"),
        (Job, "meta__contains"),
        (Schedule, "arguments__contains"),
    ],
)
def test_what_is_masked_cannot_be_guessed_by_a_filter(model: Any, lookup: str) -> None:
    JobFactory(payload='[["4111"],{}]', result='"4111"', meta='{"card":"4111"}')
    ScheduleFactory(arguments='[["4111"],{}]')
    _, client = staff(*everything_but("queue_app.view_payload"))
    assert client.get(url(model), {lookup: "4111"}).status_code in (302, 400)


def test_who_may_not_see_arguments_edits_the_rest_alone() -> None:
    schedule = ScheduleFactory(arguments='[["4111"],{}]')
    _, client = staff(*everything_but("queue_app.view_payload"))
    fields = FIELDS | {"missed": "once", "arguments": "[[],{}]", "jitter": "7"}
    assert client.post(url(Schedule, "change", schedule.pk), fields).status_code == 302
    schedule.refresh_from_db()
    assert (schedule.jitter, schedule.args) == (7, ["4111"])


def test_an_event_shows_what_was_done(pages: Client) -> None:
    QueueFactory(name="mail")
    JobFactory.create_batch(2)
    pks = [str(pk) for pk in Job.objects.values_list("pk", flat=True)]
    pages.post(url(Job), {"action": "cancel_jobs", "_selected_action": pks, "index": 0, "reason": "twice"})
    pages.post(url(Queue), {"action": "pause_queues", "_selected_action": ["mail"], "index": 0})
    text = pages.get(url(AuditEvent)).content.decode()
    assert url(Queue, "change", "mail") in text and "twice" in text and "boss" in text
    intent, result = AuditEvent.objects.order_by("pk")[:2]
    assert (
        url(AuditEvent, "change", result.pk)
        in pages.get(url(AuditEvent, "change", intent.pk)).content.decode()
    )
    text = pages.get(url(AuditEvent, "change", result.pk)).content.decode()
    assert url(AuditEvent, "change", intent.pk) in text and "&quot;cancelled&quot;: 2" in text
    for query, count in (
        ({"verb": "pause"}, 1),
        ({"target": "job"}, 2),
        ({"actor": "boss"}, 3),
        ({"q": "bo"}, 3),
    ):
        assert len(pages.get(url(AuditEvent), query).context["cl"].result_list) == count, query
