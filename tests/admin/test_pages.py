"""The pages of the admin: reading, finding, and staying fast."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from queue_app import clock
from queue_app.admin import base
from queue_app.models import Attempt, AuditEvent, DeadLetter, Job, Queue, Worker
from tests.support.admin_pages import MODELS, listed, one_of_each, url
from tests.support.behind_pages import claim, jobs, poisoned
from tests.support.factories import (
    AttemptFactory,
    DeadLetterFactory,
    JobFactory,
    QueueFactory,
    WorkerFactory,
)

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_its_pages(pages: Client, model: Any) -> None:
    row = one_of_each()[model]
    assert listed(pages, model) == ([row.pk] if model is not Attempt else [row.pk, row.pk - 1])
    assert pages.get(url(model, "change", row.pk)).status_code == 200
    assert pages.get(url(model, "history", row.pk)).status_code == 200
    assert pages.get(reverse("admin:index")).status_code == 200


@pytest.mark.parametrize("model", [Job, Attempt, Worker, DeadLetter, AuditEvent])
def test_history_cannot_be_written(pages: Client, model: Any) -> None:
    row = one_of_each()[model]
    before = list(model.objects.order_by("pk").values())
    assert pages.get(url(model, "add")).status_code == 403
    assert pages.post(url(model, "add"), {}).status_code == 403
    assert pages.post(url(model, "change", row.pk), {"state": "queued", "task": "x"}).status_code == 403
    assert pages.post(url(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    pages.post(
        url(model),
        {"action": "delete_selected", "_selected_action": [str(row.pk)], "post": "yes", "index": 0},
    )
    assert list(model.objects.order_by("pk").values()) == before


def test_the_page_of_a_job_says_everything(pages: Client) -> None:
    job = JobFactory(
        state="failed",
        payload='[["<b>"],{"who":{"name":"Ada"}}]',
        progress='[1,4,"first part"]',
        worker_id=WorkerFactory().pk,
    )
    text = pages.get(url(Job, "change", job.pk)).content.decode()
    assert "&lt;b&gt;" in text and "<b>" not in text, "escaped"
    assert "&quot;name&quot;: &quot;Ada&quot;" in text, "indented JSON"
    assert '<progress max="4" value="1">' in text and "1 of 4 first part" in text
    assert text.count("ValueError: on purpose") >= 2 and "Traceback (most recent call last)" in text
    assert url(Worker, "change", job.worker_id) in text
    assert url(DeadLetter, "change", job.dead_letters.get().pk) in text
    assert url(Attempt, "change", job.attempts.get(number=1).pk) in text
    assert "Replay this job" in text and "Cancel this job" not in text


def test_the_other_pages_link_back(pages: Client) -> None:
    rows = one_of_each()
    link = url(Job, "change", rows[Job].pk)
    assert link in pages.get(url(Attempt, "change", rows[Attempt].pk)).content.decode()
    letter = pages.get(url(DeadLetter, "change", rows[DeadLetter].pk)).content.decode()
    assert link in letter
    attempts = re.search(rf'href="({re.escape(url(Attempt))}\?q=[^"]+)"', letter)
    assert attempts and len(pages.get(attempts[1]).context["cl"].result_list) == 2
    running = JobFactory(state="running", worker_id=rows[Worker].pk)
    JobFactory(state="running")
    worker = pages.get(url(Worker, "change", rows[Worker].pk)).content.decode()
    found = re.search(rf'href="({re.escape(url(Job))}\?[^"]+)"', worker)
    assert found
    answer = pages.get(found[1].replace("&amp;", "&"))
    assert [job.pk for job in answer.context["cl"].result_list] == [running.pk]


def test_a_job_that_has_just_begun_is_shown_as_running(pages: Client) -> None:
    (job_id,) = jobs(1)
    claim()
    assert Job.objects.get().state == "queued"
    assert 'field-state_now">Running<' in pages.get(url(Job)).content.decode()
    assert ">Running<" in re.sub(r"\s+", "", pages.get(url(Job, "change", job_id)).content.decode())


def test_large_values_are_cut(pages: Client) -> None:
    job = JobFactory(payload=f'[["{"x" * 100_000}"],{{}}]')
    text = pages.get(url(Job, "change", job.pk)).content.decode()
    assert "characters more" in text and len(text) < 60_000


@pytest.mark.parametrize("depth", [50, 400, 900])
def test_deep_values_are_shown(pages: Client, depth: int) -> None:
    job = JobFactory(payload=f"[[{'[' * depth}{']' * depth}],{{}}]")
    assert pages.get(url(Job, "change", job.pk)).content.count(b"[") >= depth


def test_ids_that_are_none_lead_back(pages: Client) -> None:
    answer = pages.get(url(Job, "change", "no-such-id"), follow=True)
    assert answer.status_code == 200 and "perhaps it was deleted" in answer.content.decode().lower()


def test_a_poisonous_job_shows_the_causes_of_its_deaths_and_what_died_of_the_same(pages: Client) -> None:
    poison = poisoned()
    page = pages.get(url(DeadLetter, "change", poison.pk)).content.decode()
    for number in (1, 2, 3):
        assert f"attempt {number}: killed by SIGKILL, peak memory {number} MB" in page
    assert f'?fingerprint={poison.fingerprint}">{poison.fingerprint}</a>' in page
    assert listed(pages, DeadLetter, fingerprint=poison.fingerprint) == [poison.pk]


# Finding


def test_search_by_id_and_task(pages: Client) -> None:
    old = JobFactory(task="shop.mail", enqueued_at=clock.now() - timedelta(days=9))
    new = JobFactory(task="shop.bill")
    assert listed(pages, Job, q=str(old.pk)) == [old.pk]
    assert listed(pages, Job, q=f" {old.pk.hex.upper()} ") == [old.pk]
    assert listed(pages, Job, q=str(old.pk)[:13]) == [old.pk]
    assert listed(pages, Job, q="shop.") == [new.pk, old.pk]
    assert listed(pages, Job, q="shop.b") == [new.pk]
    assert listed(pages, Job, q="hop") == []
    letter = DeadLetterFactory()
    assert listed(pages, DeadLetter, q=str(letter.job_id)) == [letter.pk]
    assert listed(pages, DeadLetter, q=str(letter.pk)) == [letter.pk]
    worker = WorkerFactory(hostname="web-1")
    assert listed(pages, Worker, q="web") == [worker.pk]


def test_filters(pages: Client) -> None:
    old = JobFactory(state="failed", queue="mail", task="a.b", enqueued_at=clock.now() - timedelta(days=9))
    new = JobFactory(state="queued", queue="slow", task="a.c")
    assert listed(pages, Job, state__exact="failed") == [old.pk]
    assert listed(pages, Job, queue="mail") == [old.pk]
    assert listed(pages, Job, task="a.") == [new.pk, old.pk]
    assert listed(pages, Job, task="a.c", queue="slow") == [new.pk]
    assert listed(pages, Job, within="24h") == [new.pk]
    assert listed(pages, Job, within="30d") == [new.pk, old.pk]
    for status in ("alive", "silent", "stuck", "stopped"):
        worker = WorkerFactory(status=status)
        assert listed(pages, Worker, status=status) == [worker.pk]


@pytest.mark.parametrize(
    "name", ["task", "queue", "within", "state__exact", "q", "worker_id__exact", "p", "nonsense"]
)
def test_filters_survive_garbage(pages: Client, name: str) -> None:
    JobFactory()
    QueueFactory()
    for value in ("\x00", "'\"><script>", "9" * 400, "-1"):
        assert pages.get(url(Queue), {name: value}, follow=True).status_code == 200
        answer = pages.get(url(Job), {name: value}, follow=True)
        assert answer.status_code == 200
        assert b"<script>'" not in answer.content and b"><script></" not in answer.content


def test_the_input_filter_keeps_the_others(pages: Client) -> None:
    text = pages.get(
        url(Job), {"state__exact": "failed", "queue": "mail", "q": "abc", "p": "1"}, follow=True
    ).content
    form = next(part for part in text.decode().split("<form")[1:] if 'name="task"' in part).split("</form>")[
        0
    ]
    hidden = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', form))
    assert hidden == {"state__exact": "failed", "queue": "mail", "q": "abc"}


def test_dead_letters_are_the_open_ones_at_first(pages: Client) -> None:
    open_, replayed = DeadLetterFactory(), DeadLetterFactory(replayed_at=clock.now())
    assert listed(pages, DeadLetter) == [open_.pk]
    assert listed(pages, DeadLetter, replayed="yes") == [replayed.pk]
    assert listed(pages, DeadLetter, replayed="any") == [replayed.pk, open_.pk]


# Staying fast


@pytest.mark.parametrize("model", MODELS)
def test_a_page_takes_as_many_queries_for_many_rows_as_for_few(
    pages: Client, model: Any, django_assert_max_num_queries: Any
) -> None:
    for _ in range(30):
        one_of_each()
    page = url(model)
    pages.get(page)  # what is remembered by the process
    with django_assert_max_num_queries(5) as seen:  # session, user, count, rows
        assert len(pages.get(page).context["cl"].result_list) >= 30
    sql = " ".join(query["sql"] for query in seen.captured_queries)
    assert "DISTINCT" not in sql
    assert not re.search(r'"(payload|result|traceback)"', sql), "lists leave large texts where they are"


def test_the_page_of_a_job_with_many_attempts(pages: Client, django_assert_max_num_queries: Any) -> None:
    job = JobFactory(state="failed", max_attempts=60)
    pages.get(url(Job, "change", job.pk))
    with django_assert_max_num_queries(8):
        text = pages.get(url(Job, "change", job.pk)).content.decode()
    assert text.count("Traceback (most recent call last)") == 50, "the latest"


def test_counts_stop_at_a_limit(pages: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    JobFactory.create_batch(8)
    monkeypatch.setattr(base, "COUNT_LIMIT", 5)
    answer = pages.get(url(Job))
    assert answer.context["cl"].result_count == 5
    assert "There are more: counted up to 5" in answer.content.decode()
    monkeypatch.setattr(base, "COUNT_LIMIT", 8)
    assert "There are more" not in pages.get(url(Job)).content.decode()


def test_attempts_of_several_jobs(pages: Client) -> None:
    AttemptFactory.create_batch(3)
    chosen = AttemptFactory(state="lost", error_class="queue_app.exceptions.ProcessDied")
    assert listed(pages, Attempt, state__exact="lost") == [chosen.pk]
    assert listed(pages, Attempt, q=str(chosen.job_id)) == [chosen.pk]
    assert listed(pages, Attempt, q="queue_app.exc") == [chosen.pk]
