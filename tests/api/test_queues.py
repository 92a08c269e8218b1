"""Queues and workers in the API."""

from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from queue_app.dispatch import connection, keys
from queue_app.models import Queue
from tests.support.api_calls import QUEUES, WORKERS, ids_of
from tests.support.behind_pages import claim, drain, jobs
from tests.support.factories import JobFactory, QueueFactory, WorkerFactory

pytestmark = pytest.mark.django_db


committing = pytest.mark.django_db(transaction=True)


@committing
def test_queues(api: APIClient) -> None:
    QueueFactory(name="slow", paused=True, timeout=3)
    jobs(3)
    claim()
    JobFactory(state="scheduled", queue="mail")
    JobFactory(state="failed", queue="mail")
    JobFactory(state="succeeded", queue="mail")
    found = {queue["name"]: queue for queue in api.get(QUEUES).json()["results"]}
    assert list(found) == ["default", "mail", "slow"]
    nothing = {"blocked": 0, "queued": 0, "running": 0, "scheduled": 0, "retrying": 0, "failed": 0}
    assert found["default"]["depth"] == {"waiting": 2, "due_later": 0, "set_aside": 0}
    assert found["default"]["counts"] == nothing | {"queued": 3}
    assert found["mail"]["counts"] == nothing | {"scheduled": 1, "failed": 1}
    assert (found["slow"]["paused"], found["slow"]["timeout"]) == (True, 3)
    assert not any(queue["counts_capped"] for queue in found.values())
    assert api.get(f"{QUEUES}mail/").json() == found["mail"]
    assert api.get(QUEUES, {"page_size": 1, "page": 2}).json()["results"] == [found["mail"]]
    assert api.get(QUEUES, {"page": "x"}).status_code == 404


def test_counts_stop_at_a_limit(api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from queue_app.queries import queues as queue_figures

    JobFactory.create_batch(8, queue="many")
    JobFactory.create_batch(2, queue="zfew")
    monkeypatch.setattr(queue_figures, "COUNT_LIMIT", 5)
    connection.client().sadd(keys.queues(), "zfew")
    found = {queue["name"]: queue for queue in api.get(QUEUES).json()["results"]}
    assert (found["many"]["counts"]["queued"], found["many"]["counts_capped"]) == (5, True)
    assert (found["zfew"]["counts"]["queued"], found["zfew"]["counts_capped"]) == (2, False)


@committing
def test_pause_and_resume(api: APIClient) -> None:
    jobs(1)
    assert api.post(f"{QUEUES}default/pause/").json()["paused"] is True
    assert Queue.objects.get().paused and drain() == []
    assert api.get(f"{QUEUES}default/pause/").status_code == 405
    assert api.post(f"{QUEUES}default/resume/").json()["paused"] is False
    assert len(drain()) == 1
    assert api.post(f"{QUEUES}a.b-c_d/pause/").status_code == 200
    for name in ("no such name", "%00", "x" * 65, "-", "%2F"):
        assert api.post(f"{QUEUES}{name}/pause/").status_code == 404


def test_workers(api: APIClient) -> None:
    made = {status: WorkerFactory(status=status) for status in ("alive", "silent", "stuck", "stopped")}
    found = api.get(WORKERS).json()["results"]
    assert {row["id"]: row["status"] for row in found} == {
        str(row.pk): status for status, row in made.items()
    }
    for status, row in made.items():
        assert ids_of(api.get(WORKERS, {"status": status})) == [str(row.pk)]
        assert api.get(f"{WORKERS}{row.pk}/").json()["status"] == status
    assert api.get(WORKERS, {"status": "well"}).status_code == 400
