"""The addresses of the admin's pages, and what one does on them."""

from __future__ import annotations

from typing import Any

from django.test import Client
from django.urls import reverse

from queue_app.models import Attempt, AuditEvent, DeadLetter, Job, Queue, Schedule, Worker
from tests.support.factories import (
    AuditEventFactory,
    JobFactory,
    QueueFactory,
    ScheduleFactory,
    WorkerFactory,
)

MODELS = [Job, Attempt, Worker, DeadLetter, Queue, Schedule, AuditEvent]


def url(model: Any, page: str = "changelist", *args: Any) -> str:
    return reverse(f"admin:queue_app_{model._meta.model_name}_{page}", args=args)


def act(pages: Client, model: Any, action: str, pks: list[Any], **more: Any) -> list[str]:
    """Run an action on rows of a list; what the next page says."""
    data = {"action": action, "_selected_action": [str(pk) for pk in pks], "index": 0, **more}
    answer = pages.post(url(model), data, follow=True)
    assert answer.status_code == 200 and answer.redirect_chain
    return [str(message) for message in answer.context["messages"]]


def listed(pages: Client, model: Any, **query: Any) -> list[Any]:
    """The keys of the rows that a list shows."""
    answer = pages.get(url(model), query)
    assert answer.status_code == 200, answer
    return [row.pk for row in answer.context["cl"].result_list]


def one_of_each() -> dict[Any, Any]:
    job = JobFactory(state="failed")
    return {
        Job: job,
        Attempt: job.attempts.last(),
        Worker: WorkerFactory(),
        DeadLetter: job.dead_letters.get(),
        Queue: QueueFactory(),
        Schedule: ScheduleFactory(),
        AuditEvent: AuditEventFactory(),
    }
