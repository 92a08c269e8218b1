"""The API when a store is away or refuses writes."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.db import connections
from rest_framework.test import APIClient

from bench.runtime.servers import RedisServer
from tests.support.api_calls import JOBS, LETTERS, QUEUES, WORKERS, submit
from tests.support.behind_pages import drain, jobs
from tests.support.clients import basic
from tests.support.factories import DeadLetterFactory
from tests.support.refusals import read_only

pytestmark = pytest.mark.django_db


committing = pytest.mark.django_db(transaction=True)


@committing
def test_without_redis(api: APIClient, redis_process: RedisServer) -> None:
    redis_process.kill()
    made = submit(api)
    assert made.status_code == 201 and made.json()["state"] == "queued", "the row is what counts"
    for place in (JOBS, LETTERS, WORKERS, made["Location"]):
        assert api.get(place).status_code == 200
    (queue,) = api.get(QUEUES).json()["results"]
    assert queue["depth"] is None and queue["counts"]["queued"] == 1
    assert api.post(f"{QUEUES}default/pause/").status_code == 200
    answer = api.post(made["Location"] + "cancel/")
    assert answer.status_code == 503 and int(answer["Retry-After"]) > 0
    assert answer.json()["detail"].startswith("Nothing was cancelled")
    letter = DeadLetterFactory()
    assert api.post(f"{LETTERS}{letter.pk}/requeue/").status_code == 200


@committing
def test_without_the_database(boss: User, monkeypatch: pytest.MonkeyPatch) -> None:
    client = APIClient()
    default = connections["default"]
    default.close()
    nowhere = "/nowhere/db.sqlite3" if default.vendor == "sqlite" else "gone"
    with monkeypatch.context() as patch:
        patch.setitem(default.settings_dict, "NAME", nowhere)
        answers = [
            client.get(JOBS, **basic("boss", "secret")),
            client.post(JOBS, {}, **basic("boss", "secret")),
        ]
    default.close()
    for answer in answers:
        assert answer.status_code == 503 and answer["Retry-After"] and nowhere not in answer.content.decode()


@committing
def test_a_database_that_refuses_writes(api: APIClient, caplog: pytest.LogCaptureFixture) -> None:
    (job_id,) = jobs(1)
    letter = DeadLetterFactory()
    writes = [JOBS, f"{JOBS}{job_id}/cancel/", f"{LETTERS}{letter.pk}/requeue/", f"{QUEUES}default/pause/"]
    with read_only():
        answers = [
            api.post(place, {"task": "tests.app.tasks.echo"} if place == JOBS else {}) for place in writes
        ]
        assert api.get(f"{JOBS}{job_id}/").json()["state"] == "queued"
    for answer in answers:
        assert answer.status_code == 503 and int(answer["Retry-After"]) > 0
        assert answer.json() == {"detail": "The database cannot do this now."}
    assert (
        len([one for one in caplog.messages if one.startswith("The database cannot do what the API asks: ")])
        == 4
    )
    assert submit(api).status_code == 201
    assert drain()[0] == job_id, "it was not cancelled"
