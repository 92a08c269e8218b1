"""Cancel, replay and other actions of the admin, by the page and for many rows."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.test import Client

from bench.runtime.servers import RedisServer
from queue_app.admin import base
from queue_app.models import DeadLetter, Job, Queue, Schedule
from tests.support.admin_pages import MODELS, act, one_of_each, url
from tests.support.behind_pages import claim, drain, jobs
from tests.support.factories import (
    JobFactory,
)
from tests.support.refusals import read_only

pytestmark = pytest.mark.django_db


def test_cancel(pages: Client) -> None:
    running, first, second, third = jobs(4)
    claim()
    said = act(pages, Job, "cancel_jobs", [running, first, second, JobFactory(state="succeeded").pk])
    assert said == [
        "2 jobs cancelled.",
        "1 running job is being interrupted.",
        "1 not cancelled: It is succeeded already.",
    ]
    assert Job.objects.get(pk=running).cancel_requested_at is not None
    assert drain() == [third]
    assert Job.objects.get(pk=first).state == "cancelled"


def test_cancel_from_the_page_of_the_job(pages: Client) -> None:
    (job_id,) = jobs(1)
    page = url(Job, "change", job_id)
    form = pages.get(page).content.decode().split('<form method="post"')[1].split("</form>")[0]
    assert "Cancel this job" in form
    fields = dict(re.findall(r'name="([^"]+)" value="([^"]*)"', form))
    answer = pages.post(url(Job), fields)
    assert (answer.status_code, answer["Location"]) == (302, page)
    text = pages.get(page).content.decode()
    assert "1 job cancelled." in text and "Cancel this job" not in text


def test_replay(pages: Client) -> None:
    failed, other = JobFactory.create_batch(2, state="failed")
    said = act(pages, Job, "replay_jobs", [failed.pk, JobFactory(state="succeeded").pk])
    assert said == ["1 job replayed.", "1 not replayed: It is not in the dead letters."]
    assert act(pages, DeadLetter, "replay_letters", [other.dead_letters.get().pk]) == ["1 job replayed."]
    assert set(Job.objects.filter(state="queued")) == {failed, other}
    said = act(pages, DeadLetter, "replay_letters", [other.dead_letters.get().pk])
    assert said == [], "it is not in the list any more"


def test_all_of_a_filter(pages: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    JobFactory.create_batch(6, queue="mail")
    JobFactory(queue="other")
    monkeypatch.setattr(base, "ACTION_LIMIT", 4)
    data = {
        "action": "cancel_jobs",
        "select_across": 1,
        "index": 0,
        "_selected_action": [str(Job.objects.first().pk)],
    }
    answer = pages.post(url(Job) + "?queue=mail", data)
    said = [str(message) for message in get_messages(answer.wsgi_request)]
    assert said[0].startswith("Only the first 4") and said[1] == "4 jobs cancelled."
    assert Job.objects.filter(state="cancelled").count() == 4
    assert Job.objects.get(queue="other").state == "queued"


@pytest.mark.parametrize("granted", [None, "view_job", "operate_job", "change_job"])
def test_actions_need_their_right(granted: str | None) -> None:
    user = User.objects.create_user("clerk", is_staff=True)
    if granted:
        names = {granted, "view_job"} if granted == "operate_job" else {granted}
        user.user_permissions.set(Permission.objects.filter(codename__in=names))
    seen, may = granted in ("view_job", "operate_job"), granted == "operate_job"
    client = Client()
    client.force_login(user)
    job = JobFactory()
    page = client.get(url(Job, "change", job.pk))
    assert page.status_code == (200 if seen else 403)
    answer = client.post(url(Job), {"action": "cancel_jobs", "_selected_action": [str(job.pk)], "index": 0})
    assert answer.status_code == (302 if may else 200 if seen else 403)
    assert (b"Cancel this job" in page.content) == may
    assert Job.objects.get().state == ("cancelled" if may else "queued")


@pytest.mark.parametrize("model", MODELS)
def test_pages_without_redis(pages: Client, model: Any, redis_process: RedisServer) -> None:
    row = one_of_each()[model]
    JobFactory()
    redis_process.kill()
    assert pages.get(url(model)).status_code == 200
    assert pages.get(url(model, "change", row.pk)).status_code == 200


def test_cancel_without_redis_says_why(pages: Client, redis_process: RedisServer) -> None:
    job = JobFactory()
    redis_process.kill()
    (said,) = act(pages, Job, "cancel_jobs", [job.pk])
    assert said.startswith("Nothing was cancelled: Redis at ") and Job.objects.get().state == "queued"


@pytest.mark.django_db(transaction=True)
def test_actions_of_a_database_that_refuses_writes_are_answered(pages: Client) -> None:
    rows = one_of_each()
    (waiting,) = jobs(1)
    actions = [
        (Job, "cancel_jobs", waiting),
        (Job, "replay_jobs", rows[Job].pk),
        (DeadLetter, "replay_letters", rows[DeadLetter].pk),
        (Queue, "pause_queues", rows[Queue].pk),
        (Schedule, "run_schedules", rows[Schedule].pk),
    ]
    for model, action, pk in actions:
        with read_only():
            said = act(pages, model, action, [pk])
        assert said[0] == "The database cannot do this now; what was not done is unchanged.", action
    assert Job.objects.get(pk=waiting).state == "queued" and drain() == [waiting]
