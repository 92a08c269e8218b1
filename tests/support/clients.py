"""What the faces' tests share: users and clients."""

from __future__ import annotations

import base64
from typing import Any

import pytest


@pytest.fixture
def boss(db: None) -> Any:
    """A superuser."""
    from django.contrib.auth.models import User

    return User.objects.create_superuser("boss", password="secret")


@pytest.fixture
def api(boss: Any) -> Any:
    """An API client with the superuser's session. It says of all that it sends that it is JSON, also without a body."""
    from rest_framework.test import APIClient

    class Client(APIClient):
        def generic(
            self, method: str, path: str, data: Any = "", content_type: Any = None, *a: Any, **k: Any
        ) -> Any:
            return super().generic(method, path, data, content_type or "application/json", *a, **k)

    client = Client(raise_request_exception=True)
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
