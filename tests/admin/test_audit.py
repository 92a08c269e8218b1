"""The audit in the admin: from rows to what was done to them, and reasons wherever something is done."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from queue_app.models import AuditEvent, DeadLetter, Job, Queue, Schedule
from tests.admin.test_rights import FIELDS, everything_but, staff
from tests.support.admin_pages import url
from tests.support.factories import AuditEventFactory, JobFactory, QueueFactory, ScheduleFactory

pytestmark = pytest.mark.django_db


def row_of(model: Any) -> Any:
    if model in (Job, DeadLetter):
        job = JobFactory(state="failed")
        return job if model is Job else job.dead_letters.get()
    return QueueFactory() if model is Queue else ScheduleFactory()


def links_of(client: Client, row: Any) -> list[tuple[str, str]]:
    """Text and address of the links to the audit on a row's page."""
    answer = client.get(url(type(row), "change", row.pk))
    text = answer.content.decode()
    links: list[tuple[str, str]] = answer.context["audit_links"]
    for words, address in links:
        assert words in text and address.replace("&", "&amp;") in text
    return links


def listed(client: Client, address: str) -> set[Any]:
    return {event.pk for event in client.get(address).context["cl"].result_list}


@pytest.mark.parametrize("model", [Job, DeadLetter, Queue, Schedule])
def test_a_page_leads_to_what_was_done_to_its_row_and_back(pages: Client, model: Any) -> None:
    row, kind = row_of(model), model._meta.model_name
    own = AuditEventFactory(target_kind=kind, target_id=str(row.pk))
    many = AuditEventFactory(target_kind=kind, target_id="", filter={"task": "a.b"})
    AuditEventFactory(target_kind=kind, target_id="other")
    AuditEventFactory(target_kind="job" if kind == "queue" else "queue", target_id=str(row.pk))
    first, *rest = links_of(pages, row)
    assert listed(pages, first[1]) == {own.pk}
    assert [listed(pages, address) for _, address in rest] == [{many.pk}] * (model in (Job, DeadLetter))
    back = url(model, "change", row.pk)
    assert back in pages.get(first[1]).content.decode()
    assert back in pages.get(url(AuditEvent, "change", own.pk)).content.decode()


def test_the_chosen_target_is_said_beside_the_list(pages: Client) -> None:
    for target, said in (("queue:mail", "Queue mail"), ("job:", "Many jobs"), ("job", "Jobs")):
        (chosen,) = [
            choice
            for spec in pages.get(url(AuditEvent), {"target": target}).context["cl"].filter_specs
            if getattr(spec, "parameter_name", "") == "target"
            for choice in spec.choices(pages.get(url(AuditEvent), {"target": target}).context["cl"])
            if choice["selected"]
        ]
        assert chosen["display"] == said


def test_who_may_not_see_the_audit_gets_no_link() -> None:
    _, client = staff(*everything_but("queue_app.view_auditevent"))
    assert links_of(client, QueueFactory()) == []


# Reasons


def reasons() -> list[tuple[str, str]]:
    return list(AuditEvent.objects.order_by("pk").values_list("verb", "reason"))


def test_an_edit_takes_a_reason(pages: Client) -> None:
    assert 'name="reason"' in pages.get(url(Queue, "add")).content.decode()
    assert pages.post(url(Queue, "add"), {"name": "mail", "reason": "new"}).status_code == 302
    address = url(Queue, "change", "mail")
    assert 'name="reason"' in pages.get(address).content.decode()
    pages.post(address, {"timeout": "7", "paused": "on", "reason": "slow"})
    assert reasons() == [("create", "new"), ("edit", "slow"), ("pause", "slow")]
    pages.post(address, {"timeout": "7", "paused": "on", "reason": "nothing else"})
    assert len(reasons()) == 3


def test_so_does_that_of_a_schedule(pages: Client) -> None:
    fields = FIELDS | {"missed": "once"}
    pages.post(url(Schedule, "add"), fields | {"reason": "new"})
    address = url(Schedule, "change", Schedule.objects.get().pk)
    pages.post(address, fields | {"jitter": "5", "reason": "a peak"})
    assert reasons() == [("create", "new"), ("change", "a peak")]


def test_a_reason_survives_a_form_with_a_mistake(pages: Client) -> None:
    answer = pages.post(url(Queue, "add"), {"name": "", "reason": "<new>"})
    assert answer.status_code == 200 and 'value="&lt;new&gt;"' in answer.content.decode()


@pytest.mark.parametrize("model", [Queue, Schedule])
def test_deleting_takes_a_reason(pages: Client, model: Any) -> None:
    address = url(model, "delete", row_of(model).pk)
    assert 'name="reason"' in pages.get(address).content.decode()
    assert pages.post(address, {"post": "yes", "reason": "unused"}).status_code == 302
    assert reasons() == [("delete", "unused")] and not model.objects.exists()


@pytest.mark.parametrize("model", [Queue, Schedule])
def test_deleting_selected_ones_keeps_the_reason_given_above_the_list(pages: Client, model: Any) -> None:
    data = {"action": "delete_selected", "_selected_action": [str(row_of(model).pk)]}
    asked = pages.post(url(model), data | {"index": 0, "reason": "unused"}).content.decode()
    assert 'name="reason"' in asked and 'value="unused"' in asked
    assert pages.post(url(model), data | {"post": "yes", "reason": "unused now"}).status_code == 302
    assert reasons() == [("delete", "unused now")] and not model.objects.exists()


def test_the_buttons_of_a_job_take_a_reason(pages: Client) -> None:
    for state in ("queued", "failed"):
        text = pages.get(url(Job, "change", JobFactory(state=state).pk)).content.decode()
        assert 'name="reason"' in text, state


def test_who_may_only_look_is_asked_for_no_reason() -> None:
    queue = QueueFactory()
    _, client = staff("queue_app.view_queue")
    assert 'name="reason"' not in client.get(url(Queue, "change", queue.pk)).content.decode()
    assert client.get(reverse("admin:queue_app_queue_changelist")).status_code == 200
