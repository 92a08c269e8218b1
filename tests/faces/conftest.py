"""What the faces' tests share: users, clients, and a process that remembers no outage."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def forget_outages() -> Iterator[None]:
    """What this process remembers of a Redis that was away, or of queues, must not reach the next test."""
    # Imported late: this file may be read before the settings are.
    from queue_app import health
    from queue_app.dispatch import connection
    from queue_app.lifecycle import dispatching, queue_defaults

    yield
    dispatching._retry_at = 0.0
    dispatching._down_since = None
    dispatching._announced = (0, set())
    queue_defaults.forget()
    connection.forget()
    health._migrated.clear()
    health._logged.clear()


@pytest.fixture
def boss(db: None) -> Any:
    """A superuser."""
    from django.contrib.auth.models import User

    return User.objects.create_superuser("boss", password="secret")


@pytest.fixture
def api(boss: Any) -> Any:
    """An API client with the superuser's session."""
    from rest_framework.test import APIClient

    client = APIClient(raise_request_exception=True)
    client.force_login(boss)
    client.default_format = "json"
    return client


@pytest.fixture
def pages(boss: Any) -> Any:
    """A browser's client, logged into the admin."""
    from django.test import Client

    client = Client()
    client.force_login(boss)
    return client


def basic(name: str, password: str) -> dict[str, str]:
    """The header of basic authentication."""
    return {"HTTP_AUTHORIZATION": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}
