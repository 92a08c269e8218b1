"""Jobs that wait for a worker that knows their task, as API and admin show them; and what workers publish."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from bench.runtime.servers import RedisServer
from queue_app.dispatch import connection, set_aside, workers
from queue_app.maintenance.leader import Leader
from queue_app.maintenance.sample_queues import SampleQueues
from tests.support.behind_pages import WORKER, claim, jobs
from tests.support.factories import WorkerFactory

pytestmark = pytest.mark.django_db


def set_jobs_aside(*ids: str) -> None:
    holder = workers.holder(WORKER, 1)
    assert set_aside.put(connection.client(), "default", holder, "|tests.app.tasks.noop", ids) == len(ids)


def test_the_api_marks_them(api: Any, redis_process: RedisServer) -> None:
    aside, waits = jobs(2)
    claim(1)
    set_jobs_aside(aside)
    marks = {job["id"]: job["waiting_for_task"] for job in api.get("/api/v1/jobs/").json()["results"]}
    assert marks == {aside: True, waits: False}
    page = api.get(f"/api/v1/jobs/{aside}/").json()
    assert (page["waiting_for_task"], page["state"]) == (True, "queued")
    holder = workers.holder(WORKER, 2)
    assert len(set_aside.take(connection.client(), "default", "|tests.app.tasks.noop", holder, 1)[0]) == 1
    assert api.get(f"/api/v1/jobs/{aside}/").json()["waiting_for_task"] is False
    redis_process.kill()
    assert api.get(f"/api/v1/jobs/{aside}/").json()["waiting_for_task"] is False, "nobody can say"


@pytest.mark.django_db(transaction=True)  # a leader drops connections
def test_queues_and_stats_mean_the_same_by_waiting(api: Any) -> None:
    aside, *_ = jobs(3)
    claim(1)
    set_jobs_aside(aside)
    Leader("me", threading.Event(), duties=(SampleQueues(),)).step()
    depth = api.get("/api/v1/queues/default/").json()["depth"]
    (sample,) = api.get("/api/v1/stats/").json()["queues"]
    assert depth == {"waiting": 2, "due_later": 0, "set_aside": 1}
    assert depth == {name: sample[name] for name in depth}


def test_a_cancelled_one_is_not_marked(api: Any) -> None:
    (aside,) = jobs(1)
    claim(1)
    set_jobs_aside(aside)
    assert api.post(f"/api/v1/jobs/{aside}/cancel/", {}).status_code == 200
    assert api.get(f"/api/v1/jobs/{aside}/").json()["waiting_for_task"] is False


def test_the_admin_marks_them(pages: Any) -> None:
    aside, _ = jobs(2)
    claim(1)
    set_jobs_aside(aside)
    text = "Queued, for a worker that knows its task"
    assert pages.get("/admin/queue_app/job/").content.decode().count(text) == 1
    assert text in pages.get(f"/admin/queue_app/job/{aside}/change/").content.decode()


def test_a_worker_shows_its_tasks(api: Any, pages: Any, django_assert_num_queries: Any) -> None:
    worker = WorkerFactory(tasks=["shop.tasks.pay", "shop.tasks.send"], release="7")
    page = api.get(f"/api/v1/workers/{worker.pk}/").json()
    assert (page["tasks"], page["release"]) == (["shop.tasks.pay", "shop.tasks.send"], "7")
    (line,) = api.get("/api/v1/workers/").json()["results"]
    assert "tasks" not in line and line["release"] == "7"
    assert "shop.tasks.pay" in pages.get(f"/admin/queue_app/worker/{worker.pk}/change/").content.decode()
    assert "shop.tasks.pay" not in pages.get("/admin/queue_app/worker/").content.decode()
