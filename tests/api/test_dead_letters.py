"""Dead letters in the API: looked at, filtered, replayed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from rest_framework.test import APIClient

from queue_app import clock
from queue_app.dispatch import connection, queues, workers
from queue_app.domain.states import DeadReason
from queue_app.models import DeadLetter
from tests.app import tasks
from tests.support.api_calls import LETTERS, ids_of
from tests.support.behind_pages import WORKER, claim, drain, jobs, poisoned, record
from tests.support.factories import DeadLetterFactory, JobFactory
from tests.support.jobs import failed

pytestmark = pytest.mark.django_db


committing = pytest.mark.django_db(transaction=True)


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
