"""Requests that other sites make a browser send, with the credentials that it has kept: no unsafe method takes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from rest_framework.test import APIClient

from queue_app.api.errors import not_found
from queue_app.models import Job, Queue
from tests.support.clients import basic

pytestmark = pytest.mark.django_db

PAUSE = "/api/v1/queues/default/pause/"
UNSAFE = ("POST", "PUT", "PATCH", "DELETE")
JSON = "application/json"
FORMS = ["", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"]
FOREIGN = [
    {"HTTP_ORIGIN": "https://evil.example"},
    {"HTTP_ORIGIN": "null"},
    {"HTTP_ORIGIN": "http://testserver.evil.example"},
    {"HTTP_ORIGIN": "http://testserver:8080"},
    {"HTTP_ORIGIN": "http://["},
    {"HTTP_ORIGIN": ""},
    {"HTTP_SEC_FETCH_SITE": "cross-site"},
    {"HTTP_SEC_FETCH_SITE": "same-site"},
    {"HTTP_SEC_FETCH_SITE": "anything"},
    {"HTTP_ORIGIN": "http://testserver", "HTTP_SEC_FETCH_SITE": "cross-site"},
    {"HTTP_ORIGIN": "https://evil.example", "HTTP_SEC_FETCH_SITE": "same-origin"},
]
OWN = [
    {},
    {"HTTP_ORIGIN": "http://testserver"},
    {"HTTP_ORIGIN": "http://testserver", "HTTP_SEC_FETCH_SITE": "same-origin"},
    {"HTTP_SEC_FETCH_SITE": "none"},
]


@pytest.fixture
def send(boss: User) -> Any:
    """Send a request with the credentials that a browser would have kept; the body is empty."""
    client = APIClient(enforce_csrf_checks=True)

    def request(method: str, path: str, content_type: str = JSON, **headers: str) -> Any:
        return client.generic(method, path, b"", content_type or None, **basic("boss", "secret"), **headers)

    return request


def routes() -> list[str]:
    """An address of each route of the API, with values in place of its parameters."""
    found = [path for path in _addresses(get_resolver(), "") if path.startswith("/api/")]
    assert PAUSE in found and len(found) > 20
    return found


def _addresses(resolver: URLResolver, namespace: str) -> Iterator[str]:
    for one in resolver.url_patterns:
        if isinstance(one, URLResolver) and one.namespace == "admin":
            continue  # pages with forms, whose token the middleware asks for
        if isinstance(one, URLResolver):
            yield from _addresses(one, f"{namespace}{one.namespace}:" if one.namespace else namespace)
        elif isinstance(one, URLPattern) and one.callback is not not_found:
            assert one.name, f"{one} has no name, so this test cannot ask it"
            values = {name: "default" if name == "name" else uuid4() for name in one.pattern.regex.groupindex}
            yield reverse(f"{namespace}{one.name}", kwargs=values)


def test_a_form_of_a_foreign_page_changes_nothing(send: Any) -> None:
    page = {"HTTP_ORIGIN": "https://evil.example", "HTTP_SEC_FETCH_SITE": "cross-site"}
    for content_type in FORMS:
        assert send("POST", PAUSE, content_type, **page).status_code == 403
        assert send("POST", PAUSE, content_type).status_code == 415
    assert not Queue.objects.filter(paused=True).exists()


def test_every_route_refuses_what_comes_from_elsewhere(send: Any) -> None:
    for path in routes():
        for method in UNSAFE:
            for page in FOREIGN:
                answer = send(method, path, **page)
                assert answer.status_code == 403, (method, path, page, answer.content)
    assert not Queue.objects.exists() and not Job.objects.exists()


def test_every_route_wants_json(send: Any) -> None:
    for path in routes():
        for method in UNSAFE:
            for content_type in [*FORMS, "application/json-seq", "text/plain; a=application/json"]:
                answer = send(method, path, content_type)
                assert answer.status_code == 415, (method, path, content_type, answer.content)
                assert "Content-Type: application/json" in answer.json()["detail"]
    assert not Queue.objects.exists() and not Job.objects.exists()


def test_every_route_takes_json_of_its_own_site_and_of_machines(send: Any) -> None:
    for path in routes():
        for method in UNSAFE:
            for page in OWN:
                for content_type in (JSON, "Application/JSON; charset=utf-8"):
                    answer = send(method, path, content_type, **page)
                    assert answer.status_code not in (401, 403, 415, 500), (
                        method,
                        path,
                        page,
                        answer.content,
                    )


def test_the_origin_counts_before_the_credentials(send: Any) -> None:
    """Whoever is logged in or not, a foreign page learns nothing from the answer."""
    client = APIClient()
    assert client.post(PAUSE, {}, format="json", HTTP_ORIGIN="https://evil.example").status_code == 403
    assert client.post(PAUSE, {}, format="json").status_code == 401
    assert client.post(PAUSE).status_code == 401


def test_the_refusal_names_the_remedy(send: Any) -> None:
    answer = send("POST", PAUSE, HTTP_ORIGIN="https://jobs.example.com")
    assert "https://jobs.example.com" in answer.json()["detail"]
    assert "CSRF_TRUSTED_ORIGINS" in answer.json()["detail"]
    assert "CSRF_TRUSTED_ORIGINS" in send("POST", PAUSE, HTTP_SEC_FETCH_SITE="same-site").json()["detail"]


def test_trusted_origins_are_not_foreign(send: Any, settings: Any) -> None:
    settings.CSRF_TRUSTED_ORIGINS = ["https://jobs.example.com", "https://*.trusted.example"]
    for origin in ("https://jobs.example.com", "https://a.trusted.example"):
        for site in ({}, {"HTTP_SEC_FETCH_SITE": "same-site"}, {"HTTP_SEC_FETCH_SITE": "cross-site"}):
            assert send("POST", PAUSE, HTTP_ORIGIN=origin, **site).status_code == 200
    for origin in ("http://jobs.example.com", "https://other.example.com"):
        assert send("POST", PAUSE, HTTP_ORIGIN=origin).status_code == 403


def test_behind_a_proxy_that_ends_https(send: Any, settings: Any) -> None:
    secure = {
        "HTTP_ORIGIN": "https://testserver",
        "HTTP_X_FORWARDED_PROTO": "https",
        "HTTP_HOST": "testserver",
    }
    assert send("POST", PAUSE, **secure).status_code == 403  # the header is not believed
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    assert send("POST", PAUSE, **secure).status_code == 200
    assert send("POST", PAUSE, HTTP_X_FORWARDED_PROTO="https").status_code == 200  # a machine without Origin


def test_reading_is_open_to_links_of_other_pages(send: Any) -> None:
    for method in ("GET", "HEAD", "OPTIONS"):
        for page in FOREIGN:
            assert send(method, "/api/v1/queues/default/", "", **page).status_code == 200
