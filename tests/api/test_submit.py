"""Submitting over the API: what is accepted and run, and what is refused, by name."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from django.db import connections
from rest_framework.test import APIClient

from queue_app import signals
from queue_app.dispatch import connection, keys
from queue_app.models import Job
from tests.support.api_calls import JOBS, submit
from tests.support.behind_pages import claim, drain, record
from tests.support.jobs import succeeded

pytestmark = pytest.mark.django_db


committing = pytest.mark.django_db(transaction=True)


@pytest.fixture
def standard() -> Any:
    """The module with tasks of Django's Tasks API; imported under the test's usual TASKS."""
    from tests.app import dtasks

    return dtasks


@committing
def test_a_submitted_job_runs(api: APIClient) -> None:
    answer = submit(api, args=[1, "two"], kwargs={"three": None})
    body = answer.json()
    assert (answer.status_code, body["status"], body["state"]) == (201, "queued", "queued")
    assert (body["task"], body["queue"], body["priority"]) == ("tests.app.tasks.echo", "default", 0)
    assert (body["args"], body["kwargs"]) == ([1, "two"], {"three": None})
    assert answer["Location"] == body["url"] == f"http://testserver{JOBS}{body['id']}/"
    (delivery,) = claim()
    assert (delivery.id, delivery.args, delivery.kwargs) == (body["id"], [1, "two"], {"three": None})
    assert api.get(answer["Location"]).json()["state"] == "running"
    record(succeeded(delivery))
    found = api.get(answer["Location"]).json()
    assert (found["status"], found["result"], found["error"]) == ("succeeded", "done", None)
    assert [attempt["state"] for attempt in found["attempts"]] == ["succeeded"]


@committing
def test_options(api: APIClient) -> None:
    options = {"queue": "mail", "priority": "high", "max_attempts": 7, "timeout": 2.5}
    body = submit(api, **options).json()
    job = Job.objects.get(pk=body["id"])
    assert (job.queue, job.priority, job.max_attempts, job.timeout) == ("mail", 50, 7, 2.5)
    assert drain(queue="mail") == [body["id"]]
    assert Job.objects.get(pk=submit(api, priority=-100).json()["id"]).priority == -100
    nothing = dict.fromkeys(["queue", "priority", "run_after", "max_attempts", "timeout"])
    assert submit(api, **nothing).status_code == 201


@committing
def test_tasks_of_the_standard_go_through_their_backend(api: APIClient, standard: Any) -> None:
    from queue_app.backend import JobQueueBackend
    from queue_app.tasks_api.compat import signals as tasks_signals

    heard: list[Any] = []
    tasks_signals().task_enqueued.connect(
        lambda sender, task_result, **_: heard.append((sender, task_result)), weak=False
    )
    answer = submit(
        api, task="tests.app.dtasks.noop", args=[1], queue="q", priority="low", max_attempts=2, run_after=-1
    )
    assert answer.status_code == 201, answer.content
    job = Job.objects.get()
    assert (job.backend, job.queue, job.priority, job.max_attempts, job.state) == (
        "default",
        "q",
        -50,
        2,
        "queued",
    )
    ((sender, result),) = heard
    assert sender is JobQueueBackend and result.id == str(job.pk) == drain(queue="q")[0]


def test_run_after(api: APIClient) -> None:
    body = submit(api, run_after="2030-01-31T09:00:00+01:00").json()
    assert (body["state"], body["run_after"]) == ("scheduled", "2030-01-31T08:00:00Z")
    body = submit(api, run_after=90).json()
    wait = datetime.fromisoformat(body["run_after"]) - datetime.fromisoformat(body["enqueued_at"])
    assert body["state"] == "scheduled" and abs(wait.total_seconds() - 90) < 1
    assert submit(api, run_after="2020-01-31T08:00:00Z").json()["state"] == "queued"


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Etc/GMT+12"])
def test_run_after_in_another_millennium(
    api: APIClient, pages: Any, settings: Any, zone: str, standard: Any
) -> None:
    settings.TIME_ZONE = zone
    for text in ("2999-05-06T07:08:09.123457Z", "9999-12-30T23:59:59.999999Z", "0001-01-02T00:00:00Z"):
        at = datetime.fromisoformat(text)
        for task in ("tests.app.tasks.echo", "tests.app.dtasks.noop"):
            answer = submit(api, task=task, run_after=text)
            assert answer.status_code == 201, answer.content
            job = Job.objects.get(pk=answer.json()["id"])
            assert job.run_after == at == datetime.fromisoformat(answer.json()["run_after"])
            assert pages.get(f"/admin/queue_app/job/{job.pk}/change/").status_code == 200
    assert submit(api, run_after=900 * 365 * 86_400).json()["state"] == "scheduled"
    assert api.get(JOBS).status_code == 200
    assert pages.get("/admin/queue_app/job/").status_code == 200


@committing
def test_under_atomic_requests_the_push_waits_for_the_commit(
    api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def look(**_: Any) -> None:
        assert connections["default"].in_atomic_block
        seen.append(connection.client().hlen(keys.body("default")))

    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    signals.jobs_enqueued.connect(look, dispatch_uid="test")
    try:
        answer = submit(api)
        assert answer.status_code == 201
        assert submit(api, task="tests.app.tasks.missing").status_code == 400
    finally:
        signals.jobs_enqueued.disconnect(dispatch_uid="test")
    assert seen == [0]
    assert drain() == [answer.json()["id"]]


WRONG = [
    ({"task": "tests.app.tasks.missing"}, "task"),
    ({"task": "tests.app.tasks.eho"}, "task"),
    ({"task": "os.system"}, "task"),
    ({"task": "antigravity.geohash"}, "task"),
    ({"task": "tests.app.tasks.mark"}, "task"),
    ({"task": "echo"}, "task"),
    ({"task": ""}, "task"),
    ({"task": ".."}, "task"),
    ({"task": 5}, "task"),
    ({"task": None}, "task"),
    ({"task": "tests.app.tasks.\x00"}, "task"),
    ({"task": "x" * 256}, "task"),
    ({"args": {"a": 1}}, "args"),
    ({"args": "ab"}, "args"),
    ({"args": None}, "args"),
    ({"args": ["\x00"]}, "args"),
    ({"args": ["x" * 300_000]}, "args"),
    ({"kwargs": []}, "kwargs"),
    ({"kwargs": {"x": {"y": ["\x00"]}}}, "kwargs"),
    ({"kwargs": {"x": "y" * 300_000}}, "kwargs"),
    ({"args": ["x" * 200_000], "kwargs": {"y": "z" * 200_000}}, "kwargs"),
    ({"queue": "no such name!"}, "queue"),
    ({"queue": 5}, "queue"),
    ({"queue": "x" * 65}, "queue"),
    ({"priority": 101}, "priority"),
    ({"priority": "urgent"}, "priority"),
    ({"priority": 1.5}, "priority"),
    ({"priority": True}, "priority"),
    ({"priority": 10**100}, "priority"),
    ({"run_after": "tomorrow"}, "run_after"),
    ({"run_after": "2030-01-31T08:00:00"}, "run_after"),
    ({"run_after": "2030-02-31T08:00:00Z"}, "run_after"),
    ({"run_after": "9999-12-31T23:59:59-12:00"}, "run_after"),
    ({"run_after": "0001-01-01T00:00:00+14:00"}, "run_after"),
    ({"run_after": 10**30}, "run_after"),
    ({"run_after": True}, "run_after"),
    ({"run_after": [1]}, "run_after"),
    ({"max_attempts": 0}, "max_attempts"),
    ({"max_attempts": "3"}, "max_attempts"),
    ({"max_attempts": 10**20}, "max_attempts"),
    ({"timeout": 0}, "timeout"),
    ({"timeout": "5"}, "timeout"),
    ({"timeout": 10**400}, "timeout"),
    ({"task": "tests.app.tasks.fail", "args": [1, 2]}, "args"),
    ({"task": "tests.app.tasks.note", "args": ["x"]}, "args"),
    ({"task": "tests.app.tasks.fail", "kwargs": {"mesage": "x"}}, "kwargs"),
    ({"task": "tests.app.tasks.fail", "args": ["x"], "kwargs": {"message": "x"}}, "kwargs"),
    ({"task": "tests.app.tasks.report", "kwargs": {"context": 1, "folder": "", "release": ""}}, "kwargs"),
    ({"queue_name": "mail"}, "queue_name"),
    ({"arg": [1]}, "arg"),
]


@pytest.mark.parametrize(("body", "field"), WRONG)
def test_what_is_wrong_is_named(api: APIClient, body: dict[str, Any], field: str) -> None:
    answer = submit(api, **body)
    assert answer.status_code == 400, answer.content
    assert list(answer.json()) == [field] and answer.json()[field][0]
    assert not Job.objects.exists()


def test_all_that_is_wrong_is_named_at_once(api: APIClient) -> None:
    answer = submit(api, queue="!", priority=1_000, timeout=-1, args=3)
    assert sorted(answer.json()) == ["args", "priority", "queue", "timeout"]


def test_hints(api: APIClient) -> None:
    assert "Did you mean 'tests.app.tasks.echo'" in submit(api, task="tests.app.tasks.ehco").json()["task"][0]
    assert "Did you mean 'priority'" in submit(api, prority=5).json()["prority"][0]


def test_a_name_imports_nothing_outside_the_apps(api: APIClient) -> None:
    import sys

    assert "this" not in sys.modules
    assert submit(api, task="this.s").status_code == 400
    assert "this" not in sys.modules


def test_tasks_of_other_backends_are_refused(api: APIClient, standard: Any, settings: Any) -> None:
    from queue_app.tasks_api.compat import ROOT

    settings.TASKS = {"default": {"BACKEND": f"{ROOT}.backends.immediate.ImmediateBackend", "QUEUES": []}}
    answer = submit(api, task="tests.app.dtasks.noop")
    assert answer.status_code == 400 and "not this queue" in answer.json()["task"][0]


def test_queues_that_a_backend_does_not_serve(api: APIClient, standard: Any, settings: Any) -> None:
    backend = "queue_app.backend.JobQueueBackend"
    settings.TASKS = {"default": {"BACKEND": backend, "QUEUES": ["default"], "OPTIONS": {}}}
    answer = submit(api, task="tests.app.dtasks.noop", queue="mail")
    assert answer.status_code == 400 and list(answer.json()) == ["queue"]


def test_arguments_named_like_parameters_of_ours(api: APIClient, standard: Any) -> None:
    for task in ("tests.app.tasks.echo", "tests.app.dtasks.noop"):
        kwargs = {"self": 1, "task": 2, "args": 3, "func": 4}
        assert submit(api, task=task, kwargs=kwargs).json()["kwargs"] == kwargs


BODIES = [
    (rb'{"task": "tests.app.tasks.echo", "args": ["\ud800"]}', 400),
    (b"{", 400),
    (b"\xff\xfe", 400),
    (b"[]", 400),
    (b'"text"', 400),
    (b"null", 400),
    (b'{"task": NaN}', 400),
    (b'{"task": "tests.app.tasks.echo", "args": [1e999]}', 400),
    (b'{"task": "tests.app.tasks.echo", "args": [' + b"9" * 5_000 + b"]}", 400),
    (b"[" * 100_000, 400),
    (b'{"x":' * 50_000, 400),
    (b'{"task": "' + b"x" * 3_000_000 + b'"}', 413),
]


@pytest.mark.parametrize(("body", "status"), BODIES, ids=range(len(BODIES)))
def test_bodies_that_are_garbage(api: APIClient, body: bytes, status: int) -> None:
    answer = api.generic("POST", JOBS, body, content_type="application/json")
    assert answer.status_code == status and answer.json()
    assert not Job.objects.exists()


def test_depth_that_is_taken_can_be_given_back(api: APIClient) -> None:
    taken = 0
    for depth in (10, 100, 300, 400, 450, 500, 700, 900, 950, 2_000, 9_000):
        value = "[" * depth + "]" * depth
        body = f'{{"task": "tests.app.tasks.echo", "args": {value}}}'
        answer = api.generic("POST", JOBS, body, content_type="application/json")
        assert answer.status_code in (201, 400)
        if answer.status_code == 201:
            taken = depth
            shown = api.get(answer["Location"])
            assert shown.status_code == 200 and value in shown.content.decode()
            assert api.get(JOBS).status_code == 200
    assert taken >= 100


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/xml",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "nonsense",
        "a/b; c",
    ],
)
def test_other_content_types(api: APIClient, content_type: str) -> None:
    answer = api.generic("POST", JOBS, b"task=tests.app.tasks.echo", content_type=content_type)
    assert answer.status_code in (400, 415) and answer.json()["detail"]


@pytest.mark.parametrize("charset", ["rot13", "hex", "utf-7", "latin-1", "none"])
def test_the_charset_is_utf8_whatever_is_said(api: APIClient, charset: str) -> None:
    body = '{"task": "tests.app.tasks.echo", "args": ["é"]}'.encode()
    answer = api.generic("POST", JOBS, body, content_type=f"application/json; charset={charset}")
    assert (answer.status_code, answer.json()["args"]) == (201, ["é"])
