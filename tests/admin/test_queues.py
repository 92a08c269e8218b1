"""Queues in the admin: paused, resumed, edited, deleted."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from django.test import Client

from queue_app.dispatch import connection, keys
from queue_app.models import Queue
from tests.app import tasks
from tests.support.admin_pages import act, url
from tests.support.behind_pages import drain, jobs
from tests.support.factories import (
    QueueFactory,
)

pytestmark = pytest.mark.django_db


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
