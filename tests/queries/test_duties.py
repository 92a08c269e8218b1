"""The duties as operators and machines see them: API, admin page, health."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.test import Client

from bench.runtime.servers import RedisServer
from queue_app.dispatch import connection, workers
from queue_app.exceptions import QueueAppError
from queue_app.maintenance import history
from queue_app.maintenance.duty import Duty, LeaderTerm
from queue_app.maintenance.leader import DUTIES, Leader
from queue_app.models import Worker
from tests.support.factories import WorkerFactory
from tests.support.made_duties import make_duty

pytestmark = pytest.mark.django_db(transaction=True)  # a leader drops connections that are broken


def lead(leader_id: str, *duties: Duty) -> None:
    Leader(leader_id, threading.Event(), duties=duties or None).step()


def fail(term: LeaderTerm) -> int:
    raise QueueAppError("<b>the disk</b> is full")


def test_the_api_shows_every_duty(api: Any) -> None:
    worker = WorkerFactory()
    before = api.get("/api/v1/duties/").json()
    assert before["leader"] is None
    assert [duty["name"] for duty in before["duties"]] == [duty.name for duty in DUTIES]
    assert {(d["status"], d["last_run_at"], d["runs"]) for d in before["duties"]} == {("late", None, 0)}

    lead(str(worker.pk))
    answer = api.get("/api/v1/duties/")
    assert answer.status_code == 200
    data = answer.json()
    assert data["leader"] == {"id": str(worker.pk), "token": 1}
    for duty in data["duties"]:
        assert (duty["status"], duty["runs"], duty["errors"], duty["last_error"]) == ("ok", 1, 0, None)
        assert duty["interval"] > 0 and duty["jitter"] > 0 and duty["does"]
        assert duty["last_run_at"] == duty["last_good_run_at"] and duty["last_seconds"] >= 0
        assert duty["leader"] == str(worker.pk) and ":" in duty["host"]


def test_the_api_shows_the_last_error(api: Any) -> None:
    lead("somebody", make_duty("prune", 30, fail, "fails"), make_duty("reap", 2, lambda term: 3, "reaps"))
    duties = {duty["name"]: duty for duty in api.get("/api/v1/duties/").json()["duties"]}
    assert (duties["prune"]["status"], duties["prune"]["errors"]) == ("late", 1)
    assert duties["prune"]["last_error"] == "QueueAppError: <b>the disk</b> is full"
    assert duties["prune"]["last_error_at"] == duties["prune"]["last_run_at"]
    assert (duties["reap"]["status"], duties["reap"]["last_count"], duties["reap"]["total"]) == ("ok", 3, 3)


def test_a_duty_that_worked_and_then_failed_is_failing(api: Any) -> None:
    results = [5, None]

    def run(term: LeaderTerm) -> int:
        result = results.pop(0)
        return fail(term) if result is None else result

    one = Leader("a", threading.Event(), duties=(make_duty("prune", 0, run, "fails later"),))
    one.step()
    one.step()
    duties = {duty["name"]: duty for duty in api.get("/api/v1/duties/").json()["duties"]}
    assert (duties["prune"]["status"], duties["prune"]["total"]) == ("failing", 5)


def test_the_api_is_for_staff_and_answers_while_redis_is_away(api: Any, redis_process: RedisServer) -> None:
    assert Client().get("/api/v1/duties/").status_code == 401
    assert api.get("/api/v1/duties/?stauts=late").status_code == 400
    assert api.post("/api/v1/duties/", {}).status_code == 405
    redis_process.kill()
    answer = api.get("/api/v1/duties/")
    assert answer.status_code == 503 and "cannot be reached" in answer.json()["detail"]


def test_the_admin_page(pages: Any, redis_process: RedisServer) -> None:
    worker = WorkerFactory()
    assert 'href="/admin/queue_app/worker/duties/"' in pages.get("/admin/queue_app/worker/").content.decode()
    assert "Nobody leads" in pages.get("/admin/queue_app/worker/duties/").content.decode()
    lead(
        str(worker.pk),
        make_duty("prune", 30, fail, "fails"),
        *(kind() for kind in DUTIES if kind.name != "prune"),
    )
    page = pages.get("/admin/queue_app/worker/duties/").content.decode()
    assert f'href="/admin/queue_app/worker/{worker.pk}/change/"' in page
    assert "&lt;b&gt;the disk&lt;/b&gt; is full" in page
    for duty in DUTIES:
        assert duty.doc in page
    redis_process.kill()
    answer = pages.get("/admin/queue_app/worker/duties/")
    assert answer.status_code == 200 and "cannot be reached" in answer.content.decode()


def test_the_admin_page_is_for_those_who_may_see_workers(django_user_model: Any) -> None:
    user = django_user_model.objects.create_user("clerk", password="secret", is_staff=True)
    client = Client()
    assert client.get("/admin/queue_app/worker/duties/").status_code == 302
    client.force_login(user)
    assert client.get("/admin/queue_app/worker/duties/").status_code == 403
    assert not Worker.objects.exists()


def test_health_tells_of_duties_that_are_late_and_sends_nobody_away(redis_process: RedisServer) -> None:
    WorkerFactory()

    def ask() -> tuple[int, str]:
        answer = Client().get("/health/ready/")
        return answer.status_code, answer.json()["maintenance"]

    assert ask() == (200, "failing"), "never done"
    lead("somebody")
    assert ask() == (200, "ok")
    client = connection.client()
    known = history.read(client)
    known["reap"].good_at -= 3_600
    history.write(client, known, ["reap"])
    assert ask() == (200, "failing")
    workers.note_duties(client, {"reap": "{}"})
    assert ask() == (200, "failing"), "as good as never done"
    redis_process.kill()
    assert ask() == (503, "failing")
