"""The REST API as a machine uses it: submit, look, cancel, requeue, pause."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.test import TestCase
from rest_framework.test import APIClient

from bench.runtime.servers import RedisServer
from queue_app import clock, signals
from queue_app.dispatch import connection, keys, queues, workers
from queue_app.domain.states import DeadReason, JobState
from queue_app.models import DeadLetter, Job, Queue
from tests.app import tasks
from tests.support.behind_pages import WORKER, claim, drain, jobs, poisoned, record
from tests.support.clients import basic
from tests.support.factories import DeadLetterFactory, JobFactory, QueueFactory, WorkerFactory
from tests.support.jobs import failed, succeeded
from tests.support.refusals import read_only

pytestmark = pytest.mark.django_db
committing = pytest.mark.django_db(transaction=True)

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


@pytest.fixture
def standard() -> Any:
    """The module with tasks of Django's Tasks API; imported under the test's usual TASKS."""
    from tests.app import dtasks

    return dtasks


# Submitting


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


# Dead letters


@committing
def test_dead_letters(api: APIClient) -> None:
    (job_id,) = jobs(1, task=tasks.echo)
    (delivery,) = claim()
    record(failed(delivery, dead_reason=DeadReason.EXHAUSTED))
    queues.settle(connection.client(), "default", workers.holder(WORKER, 1), [job_id])
    (letter,) = api.get(LETTERS).json()["results"]
    assert (letter["job"], letter["task"], letter["reason"]) == (job_id, "tests.app.tasks.echo", "exhausted")
    assert api.get(letter["job_url"]).json()["state"] == "failed"
    assert api.get(letter["url"]).json() == letter | {"deaths": []}
    answer = api.post(letter["url"] + "requeue/")
    assert answer.status_code == 200 and answer.json()["replayed_at"]
    assert drain() == [job_id]
    assert api.post(letter["url"] + "requeue/").status_code == 409
    assert ids_of(api.get(LETTERS)) == []
    assert (
        ids_of(api.get(LETTERS, {"replayed": "yes"}))
        == ids_of(api.get(LETTERS, {"replayed": "any"}))
        == [letter["id"]]
    )


def test_dead_letter_filters(api: APIClient) -> None:
    mail = DeadLetterFactory(job__task="shop.mail", job__queue="mail", reason="poison")
    DeadLetterFactory()
    assert len(ids_of(api.get(LETTERS))) == 2
    for query in (
        {"task": "shop.mail"},
        {"queue": "mail"},
        {"reason": "poison"},
        {"fingerprint": mail.fingerprint},
    ):
        assert ids_of(api.get(LETTERS, query)) == [str(mail.pk)]
    assert api.get(LETTERS, {"replayed": "maybe"}).status_code == 400


def test_a_poisonous_job_shows_the_causes_of_its_deaths(api: APIClient) -> None:
    letter = poisoned()
    found = api.get(f"{LETTERS}{letter.pk}/").json()
    assert found["deaths"] == [
        {"attempt": n, "cause": f"killed by SIGKILL, peak memory {n} MB"} for n in (3, 2, 1)
    ]
    assert found["fingerprint"] == letter.fingerprint != ""


@committing
def test_replay_many(api: APIClient) -> None:
    old = JobFactory(state="failed", enqueued_at=clock.now() - timedelta(days=2))
    new = JobFactory.create_batch(2, state="failed")
    mail = JobFactory(state="failed", task="shop.mail", queue="mail")

    def replay(**body: Any) -> dict[str, Any]:
        answer = api.post(f"{LETTERS}replay/", body)
        assert answer.status_code == 200, answer.content
        return answer.json()

    assert replay(dry_run=True) == {"dry_run": True, "replayed": 0, "would_replay": 4}
    assert replay(dry_run=True, limit=3)["would_replay"] == 3
    assert DeadLetter.objects.filter(replayed_at=None).count() == 4
    assert replay(dry_run=True, fingerprint=mail.dead_letters.get().fingerprint)["would_replay"] == 1
    assert replay(task="shop.mail", queue="mail") == {"dry_run": False, "replayed": 1, "would_replay": 1}
    assert replay(since="1d", limit=1)["replayed"] == 1
    assert drain() == [str(new[0].pk)] and drain(queue="mail") == [str(mail.pk)]
    assert replay(since=(clock.now() - timedelta(days=3)).isoformat())["replayed"] == 2
    assert set(drain()) == {str(new[1].pk), str(old.pk)}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": "5"}, "limit"),
        ({"limit": 10**30}, "limit"),
        ({"limit": True}, "limit"),
        ({"dry_run": "yes"}, "dry_run"),
        ({"since": "yesterday"}, "since"),
        ({"since": 5}, "since"),
        ({"since": "\x00"}, "since"),
        ({"task": ["x"]}, "task"),
        ({"task": "\x00"}, "task"),
        ({"queue": "!"}, "queue"),
        ({"dryrun": True}, "dryrun"),
    ],
)
def test_wrong_replays_are_answered(api: APIClient, body: dict[str, Any], field: str) -> None:
    DeadLetterFactory()
    answer = api.post(f"{LETTERS}replay/", body)
    assert answer.status_code == 400 and list(answer.json()) == [field]
    assert DeadLetter.objects.filter(replayed_at=None).exists()
    assert api.post(f"{LETTERS}replay/", [1]).status_code == 400


# Queues and workers


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


# Stores that are away


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


# Who may


EVERYTHING = [
    ("get", "/api/v1/"),
    ("get", JOBS),
    ("post", JOBS),
    ("get", f"{JOBS}{uuid4()}/"),
    ("post", f"{JOBS}{uuid4()}/cancel/"),
    ("get", LETTERS),
    ("post", f"{LETTERS}{uuid4()}/requeue/"),
    ("post", f"{LETTERS}replay/"),
    ("get", QUEUES),
    ("post", f"{QUEUES}default/pause/"),
    ("post", f"{QUEUES}default/resume/"),
    ("get", WORKERS),
    ("get", SCHEDULES),
    ("post", SCHEDULES),
    ("patch", f"{SCHEDULES}{uuid4()}/"),
    ("delete", f"{SCHEDULES}{uuid4()}/"),
    ("post", f"{SCHEDULES}{uuid4()}/run/"),
]


@pytest.mark.parametrize(("method", "path"), EVERYTHING)
def test_staff_only(method: str, path: str) -> None:
    client = APIClient()
    answer = getattr(client, method)(path)
    assert answer.status_code == 401 and answer["WWW-Authenticate"].startswith("Basic")
    User.objects.create_user("guest", password="secret")
    assert getattr(client, method)(path, **basic("guest", "secret")).status_code == 403
    assert getattr(client, method)(path, **basic("guest", "wrong")).status_code == 401
    client.login(username="guest", password="secret")
    assert getattr(client, method)(path).status_code == 403


def test_sessions_need_the_csrf_token_and_basic_does_not(boss: User) -> None:
    client = APIClient(enforce_csrf_checks=True)
    client.login(username="boss", password="secret")
    body = {"task": "tests.app.tasks.echo"}
    assert client.get(JOBS).status_code == 200
    answer = client.post(JOBS, body, format="json")
    assert answer.status_code == 403 and "CSRF" in answer.json()["detail"]
    client.get("/admin/password_change/")  # a page with a form sets the cookie
    token = client.cookies["csrftoken"].value
    assert client.post(JOBS, body, format="json", HTTP_X_CSRFTOKEN=token).status_code == 201
    fresh = APIClient(enforce_csrf_checks=True)
    assert fresh.post(JOBS, body, format="json", **basic("boss", "secret")).status_code == 201


def test_who_did_it_is_told(api: APIClient) -> None:
    told: list[Any] = []
    signals.operated.connect(
        lambda **event: told.append((event["verb"], str(event["user"]))), weak=False, dispatch_uid="t"
    )
    try:
        with TestCase.captureOnCommitCallbacks(execute=True):
            api.post(f"{JOBS}{JobFactory().pk}/cancel/")
            api.post(f"{LETTERS}{DeadLetterFactory().pk}/requeue/")
            api.post(f"{QUEUES}default/pause/")
    finally:
        signals.operated.disconnect(dispatch_uid="t")
    assert told == [("cancel", "boss"), ("replay", "boss"), ("pause", "boss")]
