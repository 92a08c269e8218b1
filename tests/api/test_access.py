"""Who may use the API: staff alone, with a session or with basic authentication."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.test import TestCase
from rest_framework.test import APIClient

from queue_app import signals
from tests.support.api_calls import JOBS, LETTERS, QUEUES, SCHEDULES, WORKERS
from tests.support.clients import basic
from tests.support.factories import DeadLetterFactory, JobFactory

pytestmark = pytest.mark.django_db


EVERYTHING = [
    ("get", "/api/v1/"),
    ("get", JOBS),
    ("post", JOBS),
    ("get", f"{JOBS}{uuid4()}/"),
    ("post", f"{JOBS}{uuid4()}/cancel/"),
    ("get", LETTERS),
    ("post", f"{LETTERS}{uuid4()}/requeue/"),
    ("post", f"{LETTERS}replay/"),
    ("get", QUEUES),
    ("post", f"{QUEUES}default/pause/"),
    ("post", f"{QUEUES}default/resume/"),
    ("get", WORKERS),
    ("get", SCHEDULES),
    ("post", SCHEDULES),
    ("patch", f"{SCHEDULES}{uuid4()}/"),
    ("delete", f"{SCHEDULES}{uuid4()}/"),
    ("post", f"{SCHEDULES}{uuid4()}/run/"),
]


@pytest.mark.parametrize(("method", "path"), EVERYTHING)
def test_staff_only(method: str, path: str) -> None:
    client = APIClient()
    answer = getattr(client, method)(path)
    assert answer.status_code == 401 and answer["WWW-Authenticate"].startswith("Basic")
    User.objects.create_user("guest", password="secret")
    assert getattr(client, method)(path, **basic("guest", "secret")).status_code == 403
    assert getattr(client, method)(path, **basic("guest", "wrong")).status_code == 401
    client.login(username="guest", password="secret")
    assert getattr(client, method)(path).status_code == 403


def test_sessions_need_the_csrf_token_and_basic_does_not(boss: User) -> None:
    client = APIClient(enforce_csrf_checks=True)
    client.login(username="boss", password="secret")
    body = {"task": "tests.app.tasks.echo"}
    assert client.get(JOBS).status_code == 200
    answer = client.post(JOBS, body, format="json")
    assert answer.status_code == 403 and "CSRF" in answer.json()["detail"]
    client.get("/admin/password_change/")  # a page with a form sets the cookie
    token = client.cookies["csrftoken"].value
    assert client.post(JOBS, body, format="json", HTTP_X_CSRFTOKEN=token).status_code == 201
    fresh = APIClient(enforce_csrf_checks=True)
    assert fresh.post(JOBS, body, format="json", **basic("boss", "secret")).status_code == 201


def test_who_did_it_is_told(api: APIClient) -> None:
    told: list[Any] = []
    signals.operated.connect(
        lambda **event: told.append((event["verb"], str(event["user"]))), weak=False, dispatch_uid="t"
    )
    try:
        with TestCase.captureOnCommitCallbacks(execute=True):
            api.post(f"{JOBS}{JobFactory().pk}/cancel/")
            api.post(f"{LETTERS}{DeadLetterFactory().pk}/requeue/")
            api.post(f"{QUEUES}default/pause/")
    finally:
        signals.operated.disconnect(dispatch_uid="t")
    assert told == [("cancel", "boss"), ("replay", "boss"), ("pause", "boss")]
