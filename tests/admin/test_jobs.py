"""The admin as an operator uses it: reading, searching, cancelling, replaying, pausing."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse

from bench.runtime.servers import RedisServer
from queue_app import clock
from queue_app.admin import base
from queue_app.dispatch import connection, keys
from queue_app.models import Attempt, AuditEvent, DeadLetter, Job, Queue, Schedule, Worker
from tests.app import tasks
from tests.support.behind_pages import claim, drain, jobs, poisoned
from tests.support.factories import (
    AttemptFactory,
    AuditEventFactory,
    DeadLetterFactory,
    JobFactory,
    QueueFactory,
    ScheduleFactory,
    WorkerFactory,
)
from tests.support.refusals import read_only

MODELS = [Job, Attempt, Worker, DeadLetter, Queue, Schedule, AuditEvent]
pytestmark = pytest.mark.django_db


def url(model: Any, page: str = "changelist", *args: Any) -> str:
    return reverse(f"admin:queue_app_{model._meta.model_name}_{page}", args=args)


def act(pages: Client, model: Any, action: str, pks: list[Any], **more: Any) -> list[str]:
    """Run an action on rows of a list; what the next page says."""
    data = {"action": action, "_selected_action": [str(pk) for pk in pks], "index": 0, **more}
    answer = pages.post(url(model), data, follow=True)
    assert answer.status_code == 200 and answer.redirect_chain
    return [str(message) for message in answer.context["messages"]]


def listed(pages: Client, model: Any, **query: Any) -> list[Any]:
    """The keys of the rows that a list shows."""
    answer = pages.get(url(model), query)
    assert answer.status_code == 200, answer
    return [row.pk for row in answer.context["cl"].result_list]


# Reading


def one_of_each() -> dict[Any, Any]:
    job = JobFactory(state="failed")
    return {
        Job: job,
        Attempt: job.attempts.last(),
        Worker: WorkerFactory(),
        DeadLetter: job.dead_letters.get(),
        Queue: QueueFactory(),
        Schedule: ScheduleFactory(),
        AuditEvent: AuditEventFactory(),
    }


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


# Acting


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


# Queues


def paused_in_redis(name: str) -> bool:
    client: redis.Redis = connection.client()
    return bool(client.exists(keys.paused(name)))


@pytest.mark.django_db(transaction=True)
def test_pausing_by_hand_reaches_redis(pages: Client) -> None:
    fields = {
        "name": "mail",
        "paused": "on",
        "max_attempts": "",
        "timeout": "",
        "keep_succeeded": "",
        "keep_failed": "",
    }
    assert pages.post(url(Queue, "add"), fields).status_code == 302
    assert Queue.objects.get().paused and paused_in_redis("mail")
    tasks.noop.using(queue_name="mail").enqueue()
    assert drain(queue="mail") == []
    del fields["paused"]
    assert pages.post(url(Queue, "change", "mail"), fields | {"timeout": "2.5"}).status_code == 302
    queue = Queue.objects.get()
    assert (queue.paused, queue.timeout) == (False, 2.5) and not paused_in_redis("mail")
    assert len(drain(queue="mail")) == 1


@pytest.mark.django_db(transaction=True)
def test_editing_leaves_alone_what_was_not_edited(pages: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    QueueFactory(name="mail", max_attempts=3)
    from queue_app.admin.queues import QueueAdmin

    def meanwhile(self: Any, *args: Any, _save: Any = QueueAdmin.save_model, **more: Any) -> None:
        Queue.objects.update(paused=True, max_attempts=9)
        _save(self, *args, **more)

    monkeypatch.setattr(QueueAdmin, "save_model", meanwhile)
    fields = {"max_attempts": "3", "timeout": "7", "keep_succeeded": "", "keep_failed": ""}
    assert pages.post(url(Queue, "change", "mail"), fields).status_code == 302
    queue = Queue.objects.get()
    assert (queue.timeout, queue.paused, queue.max_attempts) == (7, True, 9)


@pytest.mark.django_db(transaction=True)
def test_queue_actions_and_deleting(pages: Client) -> None:
    QueueFactory(name="a")
    QueueFactory(name="b", paused=True)
    assert act(pages, Queue, "pause_queues", ["a", "b"]) == ["Paused: a."]
    assert paused_in_redis("a")
    assert act(pages, Queue, "resume_queues", ["a"]) == ["Resumed: a."]
    assert not paused_in_redis("a")
    act(pages, Queue, "pause_queues", ["a"])
    assert pages.post(url(Queue, "delete", "a"), {"post": "yes"}).status_code == 302
    assert not paused_in_redis("a") and [q.name for q in Queue.objects.all()] == ["b"]


def test_the_list_shows_what_waits(pages: Client) -> None:
    QueueFactory(name="default")
    jobs(3)
    row = pages.get(url(Queue)).context["cl"].result_list[0]
    assert row.depth == {"waiting": 3, "due_later": 0, "set_aside": 0}


@pytest.mark.parametrize(
    ("field", "value"), [("name", "no such name!"), ("max_attempts", "0"), ("timeout", "nan")]
)
def test_wrong_settings_of_a_queue_are_answered(pages: Client, field: str, value: str) -> None:
    answer = pages.post(url(Queue, "add"), {"name": "mail", field: value})
    assert answer.status_code == 200 and field in answer.context["adminform"].form.errors
    assert not Queue.objects.exists()


def test_attempts_of_several_jobs(pages: Client) -> None:
    AttemptFactory.create_batch(3)
    chosen = AttemptFactory(state="lost", error_class="queue_app.exceptions.ProcessDied")
    assert listed(pages, Attempt, state__exact="lost") == [chosen.pk]
    assert listed(pages, Attempt, q=str(chosen.job_id)) == [chosen.pk]
    assert listed(pages, Attempt, q="queue_app.exc") == [chosen.pk]
