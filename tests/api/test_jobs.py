"""Jobs in the API: looked at, filtered, cancelled."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from rest_framework.test import APIClient

from queue_app import clock
from queue_app.domain.states import JobState
from queue_app.models import Job
from tests.app import tasks
from tests.support.api_calls import JOBS, LETTERS, QUEUES, SCHEDULES, WORKERS, ids_of
from tests.support.behind_pages import claim, drain, jobs
from tests.support.factories import JobFactory

pytestmark = pytest.mark.django_db


committing = pytest.mark.django_db(transaction=True)


# Looking


def test_the_page_of_a_job(api: APIClient) -> None:
    job = JobFactory(state="failed", progress='[1,4,"part"]', result=None, suspect=True)
    found = api.get(f"{JOBS}{job.pk}/").json()
    assert found["suspect"] is True
    assert found["state"] == "failed" and found["finished_at"] and found["started_at"]
    assert found["error"] == {"class": "builtins.ValueError", "message": "on purpose"}
    assert [(a["number"], a["state"]) for a in found["attempts"]] == [(1, "failed"), (2, "failed")]
    assert all(a["traceback"].startswith("Traceback") for a in found["attempts"])
    assert found["progress"] == {"done": 1, "total": 4, "note": "part"}
    assert (found["attempts_made"], found["failures"], found["max_attempts"]) == (2, 2, 2)


@pytest.mark.parametrize("state", JobState.values)
def test_every_state_can_be_shown(api: APIClient, state: str) -> None:
    job = JobFactory(state=state)
    assert api.get(f"{JOBS}{job.pk}/").json()["status"] == state
    assert ids_of(api.get(JOBS, {"state": state})) == [str(job.pk)]


def test_lists_in_pages(api: APIClient, django_assert_max_num_queries: Any) -> None:
    made = [str(job.pk) for job in JobFactory.create_batch(7, payload='[["large"],{}]')][::-1]
    found, url, pages = [], f"{JOBS}?page_size=3", 0
    while url:
        with django_assert_max_num_queries(3) as seen:
            page = api.get(url).json()
        assert "payload" not in seen.captured_queries[-1]["sql"]
        found += [row["id"] for row in page["results"]]
        url, pages = page["next"], pages + 1
    assert (found, pages) == (made, 3)
    assert "args" not in page["results"][0] and "result" not in page["results"][0]


def test_filters(api: APIClient) -> None:
    old = JobFactory(queue="mail", task="a.b", enqueued_at=clock.now() - timedelta(days=2))
    new = JobFactory(state="failed", backend="default")
    both, yesterday = [str(new.pk), str(old.pk)], (clock.now() - timedelta(days=1)).isoformat()
    assert ids_of(api.get(JOBS)) == both
    assert ids_of(api.get(JOBS, {"queue": "mail"})) == both[1:]
    assert ids_of(api.get(JOBS, {"task": "a.b"})) == both[1:]
    assert ids_of(api.get(JOBS, {"backend": "default"})) == both[:1]
    assert ids_of(api.get(JOBS, {"created_after": yesterday})) == both[:1]
    assert ids_of(api.get(JOBS, {"created_before": yesterday})) == both[1:]
    assert ids_of(api.get(JOBS, {"state": ["failed", "queued"]})) == both
    assert ids_of(api.get(JOBS, {"state": "failed", "queue": "mail"})) == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"state": "dead"}, "state"),
        ({"stat": "failed"}, "stat"),
        ({"created_after": "yesterday"}, "created_after"),
        ({"queue": "x\x00"}, "queue"),
        ({"task": "x" * 300}, "task"),
        ({"created_before": "\x00"}, "created_before"),
    ],
)
def test_wrong_filters_are_named(api: APIClient, query: dict[str, Any], field: str) -> None:
    answer = api.get(JOBS, query)
    assert answer.status_code == 400 and list(answer.json()) == [field]


@pytest.mark.parametrize(
    "moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "0001-01-01", "9999-12-31"]
)
def test_times_at_the_ends_of_the_calendar(api: APIClient, moment: str) -> None:
    JobFactory()
    for name in ("created_after", "created_before"):
        assert api.get(JOBS, {name: moment}).status_code in (200, 400)


@pytest.mark.parametrize("cursor", ["x", "é", "cD14", "cD0lMDA=", "bz05OTk5OTk5OTk5OTk=", "cj14", ""])
def test_wrong_cursors(api: APIClient, cursor: str) -> None:
    JobFactory()
    assert api.get(JOBS, {"cursor": cursor}).status_code in (200, 404)
    assert api.get(JOBS, {"page_size": cursor}).status_code == 200


GARBAGE = [
    "x",
    "0",
    "9" * 400,
    "%00",
    "%FF",
    "..",
    "a.b",
    "a b",
    "%2F",
    "é",
    "00000000-0000-0000-0000-00000000000g",
]


@pytest.mark.parametrize("name", GARBAGE)
@pytest.mark.parametrize("place", [JOBS, LETTERS, WORKERS, SCHEDULES])
def test_ids_that_are_none(api: APIClient, place: str, name: str) -> None:
    for path, ask in (("", api.get), ("cancel/", api.post), ("requeue/", api.post)):
        answer = ask(f"{place}{name}/{path}")
        assert answer.status_code in (404, 405) and answer["Content-Type"] == "application/json"
    assert api.get(f"{place}{uuid4()}/").status_code == 404


def test_addresses_that_are_none(api: APIClient) -> None:
    for path in ("nothing/", "jobs", "jobs/x/y/z/", "jobs.json"):
        for answer in (api.get(f"/api/v1/{path}"), api.post(f"/api/v1/{path}", {})):
            assert answer.status_code == 404 and answer.json()["detail"]
    assert "end with a slash" in api.post("/api/v1/jobs", {}).json()["detail"]
    assert api.delete(JOBS).status_code == 405
    assert sorted(api.get("/api/v1/").json()) == [
        "audit",
        "dead-letters",
        "duties",
        "jobs",
        "queues",
        "schedules",
        "stats",
        "workers",
    ]
    for place in (JOBS, LETTERS, QUEUES, WORKERS):
        assert api.options(place).status_code == 200
        assert api.get(place, HTTP_ACCEPT="text/html").status_code == 406
        assert api.get(place, HTTP_ACCEPT="text/html,*/*;q=0.8").status_code == 200


# Cancelling


@committing
def test_cancel(api: APIClient) -> None:
    running, waiting = jobs(2)
    claim()
    answer = api.post(f"{JOBS}{waiting}/cancel/")
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert answer.json()["cancel_requested_at"] is None
    for _ in range(2):  # asking again is no mistake
        answer = api.post(f"{JOBS}{running}/cancel/")
        assert (answer.status_code, answer.json()["state"]) == (202, "running")
        assert answer.json()["cancel_requested_at"] is not None
    answer = api.post(f"{JOBS}{waiting}/cancel/")
    assert (answer.status_code, answer.json()) == (409, {"detail": "Not cancelled: It is cancelled already."})
    assert api.get(f"{JOBS}{waiting}/cancel/").status_code == 405
    assert drain() == []
    assert list(api.post(f"{JOBS}{waiting}/cancel/", {"forse": 1}).json()) == ["forse"]


@committing
def test_cancel_many(api: APIClient) -> None:
    _running, *waiting = jobs(4)
    (other,) = jobs(1, task=tasks.echo)
    done = JobFactory(state="succeeded").pk
    claim()
    many = f"{JOBS}cancel/"
    by_task = {"task": "tests.app.tasks.noop", "queue": "default"}
    assert api.post(many, by_task | {"dry_run": True}).json() == {"dry_run": True, "would_cancel": 4}
    answer = api.post(many, by_task | {"limit": 3})
    assert (answer.status_code, answer.json()) == (200, {"dry_run": False, "cancelled": 2, "interrupting": 1})
    assert Job.objects.filter(state="cancelled").count() == 2
    answer = api.post(many, {"ids": [waiting[2], str(done), str(uuid4())]})
    assert answer.json() == {"dry_run": False, "cancelled": 1, "interrupting": 0}
    assert api.post(many, {"state": "scheduled"}).json()["cancelled"] == 0
    assert drain() == [other]


@pytest.mark.parametrize(
    "body,field",
    [
        ({}, "detail"),
        ({"limit": 5}, "detail"),
        ({"task": "x", "limit": 0}, "limit"),
        ({"state": "succeeded"}, "state"),
        ({"ids": ["x"]}, "ids"),
        ({"tusk": "x"}, "tusk"),
        ({"queue": "x\x00"}, "queue"),
    ],
)
def test_cancel_many_of_what(api: APIClient, body: dict[str, Any], field: str) -> None:
    answer = api.post(f"{JOBS}cancel/", body)
    assert (answer.status_code, list(answer.json())) == (400, [field])
