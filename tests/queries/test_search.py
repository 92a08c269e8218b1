"""Searching the history in bounded parts: page by page everything is found, once and in order."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.db.models import Q
from django.test import Client
from rest_framework.test import APIClient

from queue_app import clock
from queue_app.admin import base
from queue_app.domain import ids
from queue_app.domain.states import UNFINISHED, JobState
from queue_app.lifecycle import operate
from queue_app.models import Attempt, DeadLetter, Job
from queue_app.models.conditions import conditions_of, replaced
from queue_app.models.unfinished import unfinished
from queue_app.queries import search, selection
from tests.support.factories import DeadLetterFactory, JobFactory, id_at

pytestmark = pytest.mark.django_db

JOBS, LETTERS = "/api/v1/jobs/", "/api/v1/dead-letters/"


@pytest.fixture(autouse=True)
def short_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a handful of rows is a long history."""
    monkeypatch.setattr(search, "MAX_DENSE_ROWS", 10)
    monkeypatch.setattr(search, "MAX_SCATTERED_ROWS", 4)
    monkeypatch.setattr(search, "MAX_WINDOW_ROWS", 5)


def make_jobs(count: int = 80) -> list[Job]:
    """Jobs of the last days at irregular times, oldest first; `a` is frequent, `b` rare and `c` long over."""
    chance = random.Random(7)
    at = clock.now() - timedelta(days=9)
    made = []
    for serial in range(count):
        at += timedelta(seconds=chance.choice([1, 60, 3_000]))
        state = chance.choice(["succeeded"] * 12 + sorted(set(JobState.values) - {"succeeded"}))
        task = (
            "shop.c"
            if serial < count / 4 and chance.random() < 0.5
            else chance.choice(["shop.a"] * 30 + ["shop.b"])
        )
        made.append(
            Job(
                id=id_at(at, serial),
                task=task,
                queue=chance.choice(["mail", "slow"]),
                state=state,
                backend=chance.choice(["", "", "other"]),
                enqueued_at=at,
                run_after=at if state in ("scheduled", "retrying") else None,
                started_at=at if state in ("running", "succeeded") else None,
                finished_at=None if state in UNFINISHED else at,
            )
        )
    Job.objects.bulk_create(made)
    return made


QUERIES: list[dict[str, Any]] = [
    {},
    {"task": "shop.a"},
    {"task": "shop.b"},
    {"task": "shop.c"},
    {"task": "shop.absent"},
    {"queue": "slow", "task": "shop.b"},
    {"queue": "mail", "state": "queued"},
    {"state": "queued"},
    {"state": "failed"},
    {"state": "failed", "backend": "other"},
    {"state": "succeeded", "task": "shop.c"},
    {"state": ["failed", "queued", "succeeded"]},
    {"state": ["expired", "blocked"], "queue": "slow"},
    {"backend": "other"},
]


@pytest.mark.parametrize("size", [3, 200])
@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_all_pages_together_have_every_job_once(api: APIClient, query: dict[str, Any], size: int) -> None:
    make_jobs()
    rows = Job.objects.order_by("-pk")
    for name, value in query.items():
        rows = rows.filter(**{f"{name}__in": value if isinstance(value, list) else [value]})
    expected = [str(pk) for pk in rows.values_list("pk", flat=True)]
    found, lasts = _walk(api, JOBS, query | {"page_size": size}, "next")
    assert found == expected
    # And so in the other direction, from the last page on, and down again.
    back, first = _walk(api, lasts, {}, "previous")
    assert back == expected[::-1]
    assert _walk(api, first, {}, "next")[0] == expected


def _walk(api: APIClient, url: str, query: dict[str, Any], way: str) -> tuple[list[str], str]:
    """What all pages have, in the order of the way; and the address of the last page."""
    found: list[str] = []
    given: dict[str, Any] | None = query
    for _ in range(1_000):
        answer = api.get(url, given)
        assert answer.status_code == 200, answer.content
        page = answer.json()
        rows = [row["id"] for row in page["results"]]
        found += rows if way == "next" else rows[::-1]
        if (further := page[way]) is None:
            return found, answer.wsgi_request.build_absolute_uri()
        url, given = further, None
    raise AssertionError("there is no end of pages")


def test_the_answer_says_how_far_it_looked(api: APIClient) -> None:
    made = make_jobs()
    page = api.get(JOBS, {"backend": "absent"}).json()
    assert page["results"] == [] and page["next"] is not None
    looked_at = made[-11]  # the eleventh, counted from the newest
    assert page["searched_since"] == clock.from_seconds(ids.made_at(looked_at.pk)).isoformat().replace(
        "+00:00", "Z"
    )
    assert api.get(JOBS, {"state": "failed"}).json()["searched_since"] is None, "an index has them all"
    full = api.get(JOBS, {"task": "shop.a", "page_size": 2}).json()
    assert len(full["results"]) == 2 and full["searched_since"] is None, "the page was filled before"
    assert api.get("/api/v1/workers/").json()["searched_since"] is None


@pytest.mark.skipif("os.environ.get('TEST_DATABASE') != 'postgresql'")
def test_on_postgresql_a_rare_task_is_found_at_any_age(api: APIClient) -> None:
    made = make_jobs()
    Job.objects.filter(pk__in=[made[3].pk, made[40].pk]).update(task="shop.rare")
    page = api.get(JOBS, {"task": "shop.rare"}).json()
    assert [row["id"] for row in page["results"]] == [str(made[40].pk), str(made[3].pk)]
    assert (page["next"], page["searched_since"]) == (None, None)
    page = api.get(JOBS, {"task": "shop.absent", "queue": "slow"}).json()
    assert (page["results"], page["next"], page["searched_since"]) == ([], None, None)


def test_dead_letters_likewise(api: APIClient) -> None:
    at = clock.now() - timedelta(days=2)
    made = []
    for number in range(40):
        at += timedelta(minutes=1)
        replayed = at if number % 3 == 0 else None
        job = JobFactory(state="failed", task=f"shop.t{number % 7}", enqueued_at=at, history=False)
        made.append(
            DeadLetterFactory(
                job=job, reason="poison" if number % 9 == 1 else "discarded", replayed_at=replayed
            )
        )
    for query, kept in (
        ({"reason": "poison"}, lambda letter: letter.reason == "poison" and not letter.replayed_at),
        ({"task": "shop.t3"}, lambda letter: letter.task == "shop.t3" and not letter.replayed_at),
        (
            {"task": "shop.t3", "queue": "default"},
            lambda letter: letter.task == "shop.t3" and not letter.replayed_at,
        ),
        ({"replayed": "yes"}, lambda letter: letter.replayed_at),
        ({"replayed": "any", "task": "shop.t3"}, lambda letter: letter.task == "shop.t3"),
    ):
        found, _ = _walk(api, LETTERS, query, "next")
        assert found == [str(letter.pk) for letter in reversed(made) if kept(letter)], query


# The admin


def _all_pages(pages: Client, model: str, **query: Any) -> tuple[list[Any], int]:
    """What a list shows, with all that its searches further back show; and how many these were."""
    found: list[Any] = []
    address = f"/admin/queue_app/{model}/"
    answer = pages.get(address, query)
    for number in range(200):
        assert answer.status_code == 200
        seen = answer.context["cl"]
        for page in range(1, seen.paginator.num_pages + 1):
            found += seen.paginator.page(page).object_list
        if seen.searched_to is None:
            assert "Searched back to" not in answer.content.decode()
            return found, number
        text = answer.content.decode()
        assert "older rows were not looked at" in text and seen.further_back in text.replace("&amp;", "&")
        answer = pages.get(address + seen.further_back)
    raise AssertionError("there is no end of pages")


def test_the_admin_says_how_far_it_looked_and_goes_on(pages: Client) -> None:
    made = make_jobs()
    for query, kept in (
        ({"task": "shop.*"}, lambda job: True),
        ({"q": "shop.c"}, lambda job: job.task == "shop.c"),
        ({"task": "shop.b"}, lambda job: job.task == "shop.b"),
        (
            {"state__exact": "succeeded", "queue": "slow"},
            lambda job: (job.state, job.queue) == ("succeeded", "slow"),
        ),
        ({"state__exact": "failed"}, lambda job: job.state == "failed"),
        ({"backend": "other"}, lambda job: job.backend == "other"),
    ):
        found, searches = _all_pages(pages, "job", **query)
        assert [job.pk for job in found] == [job.pk for job in reversed(made) if kept(job)], query
        assert (searches == 0) == (
            query == {"state__exact": "failed"} or ("b" in query.get("task", "") and _quick())
        ), query


def _quick() -> bool:
    return connection.vendor == "postgresql"


def test_attempts_by_their_error(pages: Client) -> None:
    job = JobFactory(history=False)
    at = clock.now()
    rows = [
        Attempt(
            job=job,
            number=number,
            state="succeeded" if number % 8 else "failed",
            error_class="" if number % 8 else "shop.Refused" if number % 24 else "shop.Other",
            finished_at=at + timedelta(seconds=number),
        )
        for number in range(1, 100)
    ]
    Attempt.objects.bulk_create(rows)
    for query, kept in (
        ({"q": "shop.Ref"}, lambda row: row.error_class == "shop.Refused"),
        ({"q": "nothing"}, lambda row: False),
        ({"state__exact": "succeeded"}, lambda row: row.state == "succeeded"),
        ({"state__exact": "failed", "q": "shop.O"}, lambda row: row.error_class == "shop.Other"),
    ):
        found, _ = _all_pages(pages, "attempt", **query)
        assert [row.number for row in found] == [row.number for row in reversed(rows) if kept(row)], query


def test_the_beginning_of_an_id_of_many_attempts(pages: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    job = JobFactory(state="failed", max_attempts=6)
    monkeypatch.setattr(base, "MAX_MATCHES", 4)
    answer = pages.get("/admin/queue_app/attempt/", {"q": str(job.pk)})
    assert len(answer.context["cl"].result_list) == 4
    assert "Only the newest 4 matches are listed" in answer.content.decode()


def test_an_address_sorts_nothing(pages: Client) -> None:
    made = make_jobs(20)
    answer = pages.get("/admin/queue_app/job/", {"o": "2"})
    assert [job.pk for job in answer.context["cl"].result_list] == [job.pk for job in reversed(made)]


@pytest.mark.parametrize("below", ["x", "\x00", "-1", "9" * 400])
def test_a_wrong_key_leads_to_the_whole_list(pages: Client, below: str) -> None:
    make_jobs(3)
    for model in ("job", "attempt"):
        assert (
            pages.get(f"/admin/queue_app/{model}/", {base.BEFORE_VAR: below}, follow=True).status_code == 200
        )


# What is told apart


@pytest.mark.parametrize(
    ("rows", "known", "more"),
    [
        (Job.objects.all(), {}, False),
        (Job.objects.filter(task="x", queue="y"), {"task": "x", "queue": "y"}, False),
        (Job.objects.filter(task="x").filter(task="y"), {"task": "x"}, True),
        (Job.objects.filter(task="x").filter(task="x"), {"task": "x"}, False),
        (Job.objects.filter(task__startswith="x"), {"task__startswith": "x"}, False),
        (Job.objects.filter(Q(task="x") | Q(queue="y")), {}, True),
        (Job.objects.exclude(task="x"), {}, True),
        (Job.objects.unfinished(), {"state__in": [s.value for s in sorted(UNFINISHED)]}, False),
        (Job.objects.timed(), {}, True),
        (Job.objects.filter(attempts__state="lost"), {}, True),
        (Job.objects.filter(selection.created_between(after=clock.now())), {}, False),
        (DeadLetter.objects.filter(replayed_at__isnull=True), {"replayed_at__isnull": True}, False),
    ],
)
def test_conditions(rows: Any, known: dict[str, Any], more: bool) -> None:
    found = conditions_of(rows)
    assert (found.known, found.more, found.chosen) == (known, more, False)
    assert conditions_of(rows.filter(pk=UUID(int=1))).chosen
    for name in known:
        found = conditions_of(replaced(rows, name, pk__gt=UUID(int=1)))
        rest = known if more else {key: value for key, value in known.items() if key != name}
        assert found.known == rest, "the one condition, or none of several"
        assert found.key == Q(id__gt=UUID(int=1)) & conditions_of(rows).key
    assert conditions_of(rows).known == known, "the queryset itself stays as it was"


# Verbs


def test_the_unfinished_are_found_oldest_first() -> None:
    made = make_jobs()
    wanted = [job.pk for job in made if job.state in UNFINISHED and job.task == "shop.a"]
    assert unfinished(Job.objects.filter(task="shop.a")) == wanted
    mail = [job.pk for job in made if job.state in UNFINISHED and job.queue == "mail"]
    assert unfinished(Job.objects.filter(queue="mail"), 5) == mail[:5]
    assert (
        unfinished(Job.objects.filter(state="retrying"), 1)
        == [j.pk for j in made if j.state == "retrying"][:1]
    )
    assert unfinished(Job.objects.filter(state="succeeded")) == []


def test_cancel_takes_a_queryset() -> None:
    made = make_jobs()
    waiting = {str(job.pk) for job in made if job.state in UNFINISHED - {"running"} and job.queue == "slow"}
    answer = operate.cancel(Job.objects.filter(queue="slow"), limit=1_000)
    assert set(answer.done) == waiting and not answer.refused
    assert set(answer.requested) == {
        str(job.pk) for job in made if job.state == "running" and job.queue == "slow"
    }
