"""/audit/ in the REST API, and the reasons that its verbs take."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User

from queue_app import clock
from queue_app.models import AuditEvent
from tests.support.factories import AuditEventFactory, JobFactory, ScheduleFactory

pytestmark = pytest.mark.django_db

AUDIT = "/api/v1/audit/"


def found(api: Any, **query: str) -> list[str]:
    answer = api.get(AUDIT, query)
    assert answer.status_code == 200, answer.content
    return [row["id"] for row in answer.json()["results"]]


def test_a_verb_is_told_with_who_and_why(api: Any, boss: User) -> None:
    answer = api.post("/api/v1/queues/mail/pause/", {"reason": "down"}, HTTP_X_REQUEST_ID="r-1")
    assert answer.status_code == 200
    (event,) = api.get(AUDIT).json()["results"]
    told = {
        "actor_kind": "user",
        "actor": "boss",
        "actor_id": str(boss.pk),
        "verb": "pause",
        "target_kind": "queue",
        "target_id": "mail",
        "filter": None,
        "count": 1,
        "reason": "down",
        "before": {"paused": False},
        "after": {"paused": True},
        "request_id": "r-1",
        "phase": "done",
        "intent_id": None,
    }
    assert event == {**told, **{name: event[name] for name in ("id", "url", "at")}}
    assert api.get(event["url"]).json() == event


def test_filters_and_pages(api: Any) -> None:
    old = AuditEventFactory(actor="ada", verb="pause", target_id="mail", at=clock.now() - timedelta(days=2))
    new = AuditEventFactory(
        actor="bob", verb="cancel", target_kind="job", target_id="7", actor_kind="command"
    )
    both = [str(new.pk), str(old.pk)]
    assert found(api) == both
    assert found(api, actor="ada") == found(api, verb="pause") == found(api, target="queue") == [both[1]]
    assert (
        found(api, target="job:7") == found(api, since="1d") == found(api, actor_kind="command") == [both[0]]
    )
    assert found(api, target="job:8") == found(api, phase="intent") == []
    assert found(api, since="3d") == both
    page = api.get(AUDIT, {"page_size": 1}).json()
    assert [row["id"] for row in page["results"]] == [both[0]]
    assert [row["id"] for row in api.get(page["next"]).json()["results"]] == [both[1]]
    for wrong in ({"target": "mail"}, {"since": "soon"}, {"verb": "burn"}, {"actro": "ada"}):
        assert list(api.get(AUDIT, wrong).json()) == list(wrong), wrong


def test_it_is_read_only(api: Any) -> None:
    page = f"{AUDIT}{AuditEventFactory().pk}/"
    for method in ("put", "patch", "delete"):
        assert getattr(api, method)(page, {}).status_code == 405
    assert api.post(AUDIT, {}).status_code == 405 and AuditEvent.objects.count() == 1


@pytest.mark.parametrize("reason", ["x" * 501, 7, ["x"], "a\x00b"])
def test_a_wrong_reason_is_answered(api: Any, reason: Any) -> None:
    job, schedule = JobFactory(state="failed"), ScheduleFactory()
    for place, body in (
        (f"jobs/{job.pk}/cancel/", {}),
        ("jobs/cancel/", {"queue": "mail"}),
        (f"dead-letters/{job.dead_letters.get().pk}/requeue/", {}),
        ("dead-letters/replay/", {}),
        ("queues/mail/pause/", {}),
        (f"schedules/{schedule.pk}/run/", {}),
    ):
        answer = api.post(f"/api/v1/{place}", body | {"reason": reason})
        assert answer.status_code == 400 and list(answer.json()) == ["reason"], (place, answer.content)
    answer = api.patch(f"/api/v1/schedules/{schedule.pk}/", {"jitter": 1, "reason": reason})
    assert answer.status_code == 400 and list(answer.json()) == ["reason"]
    assert not AuditEvent.objects.exists()


def test_a_verb_for_many_tells_its_filter(api: Any) -> None:
    JobFactory.create_batch(2, queue="mail")
    api.post("/api/v1/jobs/cancel/", {"queue": "mail", "reason": "sent twice"})
    result, intent = api.get(AUDIT).json()["results"]
    assert (intent["phase"], result["phase"], result["intent_id"]) == ("intent", "result", intent["id"])
    assert intent["filter"] == result["filter"] == {"queue": "mail", "limit": 1_000}
    assert (intent["count"], result["count"]) == (None, 2)
    assert result["reason"] == "sent twice" and result["after"]["cancelled"] == 2
    assert api.post("/api/v1/jobs/cancel/", {"queue": "mail", "dry_run": True}).json()["would_cancel"] == 0
    assert AuditEvent.objects.count() == 2, "a dry run leaves none"
