"""The audit in the admin: from rows to what was done to them, and back."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from queue_app.models import AuditEvent, DeadLetter, Job, Queue, Schedule
from tests.faces.test_admin import url
from tests.faces.test_admin_rights import everything_but, staff
from tests.factories import AuditEventFactory, JobFactory, QueueFactory, ScheduleFactory

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
