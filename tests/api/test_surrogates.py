"""Halves of surrogate pairs: JSON can spell them, no store can hold them. The answer names the place, it is no 500."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rest_framework.test import APIClient

from queue_app.api.parsers import StrictJSONParser
from queue_app.models import Job, Schedule
from tests.support.factories import DeadLetterFactory, JobFactory, ScheduleFactory

pytestmark = pytest.mark.django_db

HALF = "\ud800"
JOB = {"task": "tests.app.tasks.echo"}
SCHEDULE = {"name": "one", "task": "tests.app.tasks.echo", "cron": "* * * * *"}
PLACES: list[tuple[str, dict[str, Any], str]] = [
    *(("jobs/", JOB | {name: HALF}, name) for name in ("task", "queue", "priority", "run_after", "timeout")),
    ("jobs/", JOB | {"args": [1, {"x": ["a" + HALF]}]}, "args"),
    ("jobs/", JOB | {"kwargs": {"x": {HALF: 1}}}, "kwargs"),
    ("jobs/", JOB | {HALF: 1}, "detail"),
    ("jobs/cancel/", {"task": HALF}, "task"),
    ("jobs/cancel/", {"queue": HALF}, "queue"),
    ("jobs/cancel/", {"ids": [HALF]}, "ids"),
    ("jobs/cancel/", {"state": HALF}, "state"),
    *(
        ("dead-letters/replay/", {name: HALF}, name)
        for name in ("task", "queue", "fingerprint", "since", "limit")
    ),
    *(("schedules/", SCHEDULE | {n: HALF}, n) for n in ("name", "task", "cron", "zone", "queue", "missed")),
    ("schedules/", SCHEDULE | {"args": [HALF]}, "args"),
    ("queues/default/pause/", {HALF: 1}, "detail"),
]


@pytest.mark.parametrize(("path", "body", "field"), PLACES)
def test_a_body_with_half_a_pair(api: APIClient, path: str, body: Any, field: str) -> None:
    answer = api.generic("POST", f"/api/v1/{path}", json.dumps(body).encode(), "application/json")
    assert (answer.status_code, list(answer.json())) == (400, [field]), answer.content
    assert "surrogate" in str(answer.json()[field])
    assert not Job.objects.exists() and not Schedule.objects.exists()


def test_whole_pairs_and_escaped_backslashes_are_text(api: APIClient) -> None:
    for spelled in (r"\ud83d\ude00", r"\\ud800", r"\\\\udfff", "\N{GRINNING FACE}"):
        body = f'{{"task": "tests.app.tasks.echo", "args": ["{spelled}"]}}'.encode()
        answer = api.generic("POST", "/api/v1/jobs/", body, "application/json")
        assert answer.status_code == 201 and answer.json()["args"] == [json.loads(f'"{spelled}"')]


@pytest.mark.parametrize("bytes_of_half", ["%ED%A0%80", "%ED%BF%BF", "%ED%A0%80%ED%B0%80", "%FF"])
def test_addresses_and_queries_cannot_spell_one(api: APIClient, bytes_of_half: str) -> None:
    JobFactory(), DeadLetterFactory(), ScheduleFactory()
    queries = {
        "jobs": ("state", "queue", "task", "backend", "created_after", "cursor", "page_size", bytes_of_half),
        "dead-letters": ("task", "queue", "reason", "fingerprint", "replayed", "created_before", "cursor"),
        "queues": ("page", "page_size"),
        "schedules": ("name", "task", "paused", "cursor"),
        "workers": ("status", "cursor"),
        "stats": ("seconds", "samples"),
        "duties": ("x",),
    }
    for place, names in queries.items():
        for name in names:
            answer = api.get(f"/api/v1/{place}/?{name}={bytes_of_half}")
            assert answer.status_code in (200, 400, 404) and answer.json() is not None
        for path in (f"{place}/{bytes_of_half}/", f"{place}/{bytes_of_half}/pause/"):
            for ask in (api.get, api.post, api.patch):
                assert ask(f"/api/v1/{path}").status_code in (400, 404, 405)


values = st.recursive(
    st.none() | st.integers() | st.text(st.characters(exclude_categories=[]), max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=[]), max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


def is_text(value: Any) -> bool:
    """Whether all strings can be written as UTF-8."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


@given(values)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_parser_lets_pass_what_can_be_written_and_nothing_else(value: Any) -> None:
    from io import BytesIO

    from rest_framework.exceptions import APIException

    body = json.dumps(value).encode()
    try:
        found = StrictJSONParser().parse(BytesIO(body))
    except APIException as error:
        assert error.status_code == 400 and is_text(error.detail) and not is_text(json.loads(body))
    else:
        assert found == json.loads(body) and is_text(found)


@pytest.mark.parametrize("name", ["\x00", "\ud800", "é", "x" * 10_000, "a\nb"])
def test_credentials_of_any_bytes_are_unknown(name: str) -> None:
    import base64

    text = base64.b64encode(f"{name}:x".encode(errors="surrogatepass")).decode()
    assert APIClient().get("/api/v1/jobs/", HTTP_AUTHORIZATION=f"Basic {text}").status_code == 401
