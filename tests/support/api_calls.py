"""Calls of the API: its addresses, submitting a job, the ids in an answer."""

from __future__ import annotations

from typing import Any

from rest_framework.test import APIClient

JOBS = "/api/v1/jobs/"


LETTERS = "/api/v1/dead-letters/"


QUEUES = "/api/v1/queues/"


WORKERS = "/api/v1/workers/"


SCHEDULES = "/api/v1/schedules/"


def submit(api: APIClient, **body: Any) -> Any:
    return api.post(JOBS, {"task": "tests.app.tasks.echo"} | body)


def ids_of(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.content
    return [row["id"] for row in answer.json()["results"]]
