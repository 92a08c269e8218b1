"""The verbs for people: each asks for its right, and leaves an audit event that shares the fate of what it did."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.test import RequestFactory

from bench.runtime.servers import RedisServer
from queue_app.domain.rights import Right
from queue_app.exceptions import NotPermitted, StoreUnavailable
from queue_app.lifecycle import operate
from queue_app.models import AuditEvent, DeadLetter, Job, Queue, Schedule, audit_event
from queue_app.operations import audit, dead_letters, jobs, queues, schedules
from queue_app.operations.actor import Actor
from tests.app import tasks
from tests.support.factories import JobFactory, QueueFactory, ScheduleFactory

pytestmark = pytest.mark.django_db


def user_with(*rights: Right) -> User:
    user = User.objects.create_user("ada", password="secret", is_staff=True)
    names = [right.partition(".")[2] for right in rights]
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    return User.objects.get(pk=user.pk)


def cancel_one(actor: Actor) -> Any:
    return jobs.cancel(actor, [JobFactory().pk], reason="wrong")


def cancel_two(actor: Actor) -> Any:
    return jobs.cancel(actor, [job.pk for job in JobFactory.create_batch(2)], reason="wrong")


def cancel_matching(actor: Actor) -> Any:
    JobFactory.create_batch(3, queue="mail")
    rows = Job.objects.filter(queue="mail")
    return jobs.cancel_matching(actor, rows, {"queue": "mail"}, limit=2, reason="wrong")


def replay_one(actor: Actor) -> Any:
    return dead_letters.replay(actor, [JobFactory(state="failed").dead_letters.get().pk], reason="wrong")


def replay_job(actor: Actor) -> Any:
    return dead_letters.replay_jobs(actor, [JobFactory(state="failed").pk], reason="wrong")


def replay_matching(actor: Actor) -> Any:
    JobFactory.create_batch(2, state="failed")
    return dead_letters.replay_matching(actor, DeadLetter.objects.all(), {"task": "x"}, reason="wrong")


def edit_queue(actor: Actor) -> Any:
    return queues.edit(actor, QueueFactory(name="mail").pk, {"timeout": 5.0}, reason="wrong")


def resume_queue(actor: Actor) -> Any:
    return queues.resume(actor, QueueFactory(name="mail", paused=True).pk, reason="wrong")


def delete_queue(actor: Actor) -> Any:
    return queues.delete(actor, QueueFactory(name="mail", paused=True).pk, reason="wrong")


def create_schedule(actor: Actor) -> Any:
    return schedules.create(actor, ScheduleFactory.build(name="nightly"), reason="wrong")


def change_schedule(actor: Actor) -> Any:
    schedule = ScheduleFactory(name="nightly")
    schedule.jitter = 7
    return schedules.change(actor, schedule, ["jitter"], reason="wrong")


#: A verb, its right, and its events: (verb, kind, phase, count).
VERBS: list[tuple[Callable[[Actor], Any], Right, list[tuple[str, str, str, int | None]]]] = [
    (cancel_one, Right.OPERATE_JOB, [("cancel", "job", "done", 1)]),
    (cancel_two, Right.OPERATE_JOB, [("cancel", "job", "intent", None), ("cancel", "job", "result", 2)]),
    (cancel_matching, Right.OPERATE_JOB, [("cancel", "job", "intent", None), ("cancel", "job", "result", 2)]),
    (replay_one, Right.REPLAY_DEADLETTER, [("replay", "deadletter", "done", 1)]),
    (replay_job, Right.REPLAY_DEADLETTER, [("replay", "job", "done", 1)]),
    (
        replay_matching,
        Right.REPLAY_DEADLETTER,
        [("replay", "deadletter", "intent", None), ("replay", "deadletter", "result", 2)],
    ),
    (
        lambda actor: queues.pause(actor, "mail", reason="wrong"),
        Right.OPERATE_QUEUE,
        [("pause", "queue", "done", 1)],
    ),
    (
        resume_queue,
        Right.OPERATE_QUEUE,
        [("resume", "queue", "done", 1)],
    ),
    (
        lambda actor: queues.create(actor, Queue(name="mail", paused=True), reason="wrong"),
        Right.OPERATE_QUEUE,
        [("create", "queue", "done", 1)],
    ),
    (edit_queue, Right.OPERATE_QUEUE, [("edit", "queue", "done", 1)]),
    (delete_queue, Right.OPERATE_QUEUE, [("delete", "queue", "done", 1)]),
    (create_schedule, Right.MANAGE_SCHEDULE, [("create", "schedule", "done", 1)]),
    (change_schedule, Right.MANAGE_SCHEDULE, [("change", "schedule", "done", 1)]),
    (
        lambda actor: schedules.delete(actor, ScheduleFactory(), reason="wrong"),
        Right.MANAGE_SCHEDULE,
        [("delete", "schedule", "done", 1)],
    ),
    (
        lambda actor: schedules.pause(actor, ScheduleFactory(), reason="wrong"),
        Right.MANAGE_SCHEDULE,
        [("pause", "schedule", "done", 1)],
    ),
    (
        lambda actor: schedules.resume(actor, ScheduleFactory(paused=True), reason="wrong"),
        Right.MANAGE_SCHEDULE,
        [("resume", "schedule", "done", 1)],
    ),
    (
        lambda actor: schedules.run_now(actor, ScheduleFactory(), reason="wrong"),
        Right.MANAGE_SCHEDULE,
        [("run", "schedule", "done", 1)],
    ),
]
every_verb = pytest.mark.parametrize("verb,right,told", VERBS)


def rows() -> list[Any]:
    """All that a verb could change in the record."""
    found: list[Any] = []
    for model in (Job, DeadLetter, Queue, Schedule, AuditEvent):
        found += model.objects.order_by("pk").values()  # type: ignore[attr-defined]
    return found


@every_verb
def test_a_verb_leaves_its_events(verb: Callable[[Actor], Any], right: Right, told: Any) -> None:
    user = user_with(right)
    verb(Actor.of_user(user, "request-7"))
    events = list(AuditEvent.objects.order_by("pk"))
    assert [(e.verb, e.target_kind, e.phase, e.count) for e in events] == told
    for event in events:
        assert (event.actor_kind, event.actor, event.actor_id) == ("user", "ada", str(user.pk))
        assert (event.reason, event.request_id) == ("wrong", "request-7")
        assert event.verb in audit_event.VERBS and event.target_kind in audit_event.KINDS
        assert bool(event.target_id) is (event.phase == "done")
    if len(events) == 2:
        assert events[1].intent_id == events[0].pk and events[0].filter == events[1].filter != {}


@every_verb
def test_without_the_right_nothing_happens(verb: Callable[[Actor], Any], right: Right, told: Any) -> None:
    others = [one for one in Right if one is not right]
    with pytest.raises(NotPermitted) as caught:
        verb(Actor.of_user(user_with(*others)))
    assert caught.value.right == right and right in str(caught.value)
    assert isinstance(caught.value, PermissionDenied), "Django answers 403 by itself"
    assert not AuditEvent.objects.exists()
    assert not Job.objects.exclude(state__in=("queued", "failed")).exists()


@every_verb
def test_events_are_rolled_back_with_what_was_done(
    verb: Callable[[Actor], Any], right: Right, told: Any
) -> None:
    before = rows()
    with pytest.raises(RuntimeError), transaction.atomic():
        verb(Actor.system("test"))
        assert AuditEvent.objects.exists()
        raise RuntimeError
    assert rows() == before


@every_verb
def test_what_cannot_be_told_is_not_done(
    verb: Callable[[Actor], Any], right: Right, told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError

    monkeypatch.setattr(AuditEvent, "save", fail)
    with pytest.raises(RuntimeError):
        verb(Actor.system("test"))
    assert not Job.objects.filter(state="cancelled").exists()
    assert not DeadLetter.objects.filter(replayed_at__isnull=False).exists()
    assert not Queue.objects.filter(timeout__isnull=False).exists()
    assert not Schedule.objects.filter(jitter=7).exists()
    assert not Job.objects.filter(task="tests.app.tasks.noop").exists(), "no schedule was run"


# One by one


def test_what_changes_nothing_leaves_no_event() -> None:
    actor = Actor.system("test")
    assert jobs.cancel(actor, [JobFactory(state="succeeded").pk]).refused
    assert jobs.cancel(actor, ["nonsense"]).refused
    assert dead_letters.replay_jobs(actor, [JobFactory().pk]).refused
    queues.delete(actor, "unknown")
    assert not AuditEvent.objects.exists()


def test_before_and_after_are_told() -> None:
    actor = Actor.command("root on the command line")
    QueueFactory(name="mail", timeout=2.0)
    queues.edit(actor, "mail", {"timeout": 5.0, "paused": True})
    edited, paused = AuditEvent.objects.order_by("pk")
    assert (edited.before, edited.after) == ({"timeout": 2.0}, {"timeout": 5.0})
    assert (paused.verb, paused.before, paused.after) == ("pause", {"paused": False}, {"paused": True})
    assert (paused.actor_kind, paused.actor) == ("command", "root on the command line")
    assert Queue.objects.get().paused


def test_arguments_of_a_schedule_are_not_told() -> None:
    schedule = ScheduleFactory(arguments='[["4111"],{}]')
    schedule.arguments = '[["4222"],{}]'
    schedules.change(Actor.system("test"), schedule, ["arguments"])
    schedules.delete(Actor.system("test"), schedule)
    text = str([(event.before, event.after) for event in AuditEvent.objects.all()])
    assert "4111" not in text and "4222" not in text and "arguments" in text


def test_a_run_names_its_job() -> None:
    job_id = schedules.run_now(Actor.system("test"), ScheduleFactory(name="nightly"))
    assert AuditEvent.objects.get().after == {"name": "nightly", "job": job_id}


def test_submitting_needs_its_right_and_says_who_it_was_in_the_row() -> None:
    with pytest.raises(NotPermitted, match="submit_job"):
        jobs.submit(Actor.of_user(user_with(Right.OPERATE_JOB)), tasks.noop)
    assert not Job.objects.exists()
    job_id = jobs.submit(Actor.system("test"), tasks.noop, [1])
    job = Job.objects.get(pk=job_id)
    assert json.loads(job.meta or "") == {"actor": {"kind": "system", "id": "", "name": "test"}}
    assert job.payload == "[[1],{}]"
    assert Job.objects.count() == 1 and not AuditEvent.objects.exists()


def test_very_many_ids_are_listed_in_part() -> None:
    found = audit.ids_criteria(list(range(1_003)))
    assert (len(found["ids"]), found["ids_not_listed"]) == (1_000, 3)


# Many


@pytest.mark.django_db(transaction=True)
def test_an_intent_is_committed_before_anything_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    JobFactory.create_batch(2)

    class Killed(BaseException):
        pass

    def die(*_: Any, **__: Any) -> Any:
        raise Killed

    monkeypatch.setattr(operate, "_cancel_some", die)
    with pytest.raises(Killed):
        jobs.cancel_matching(Actor.system("test"), Job.objects.all(), {"queue": "default"})
    event = AuditEvent.objects.get()
    assert (event.phase, event.filter, event.count) == ("intent", {"queue": "default"}, None)


@pytest.mark.django_db(transaction=True)
def test_a_verb_that_was_stopped_says_so(redis_process: RedisServer) -> None:
    JobFactory.create_batch(2)
    redis_process.kill()
    with pytest.raises(StoreUnavailable):
        jobs.cancel_matching(Actor.system("test"), Job.objects.all(), {"queue": "default"})
    result = AuditEvent.objects.get(phase="result")
    assert result.count is None and "Nothing was cancelled" in result.after["stopped"]
    assert redis_process.url not in str(result.after)


# Actors


@pytest.mark.parametrize(
    "given,kept", [("abc-7", "abc-7"), ("", ""), ("x" * 129, ""), ("a\x1bb", ""), (None, "")]
)
def test_the_id_of_a_request_is_kept_if_it_can_be_read(given: str | None, kept: str) -> None:
    request = RequestFactory().get("/", **({} if given is None else {"HTTP_X_REQUEST_ID": given}))  # type: ignore[arg-type]
    request.user = user_with()
    assert Actor.of_request(request).request_id == kept


def test_who_was_deleted_is_still_named() -> None:
    user = user_with(Right.OPERATE_QUEUE)
    queues.pause(Actor.of_user(user), "mail")
    pk = str(user.pk)
    user.delete()
    event = AuditEvent.objects.get()
    assert (event.actor, event.actor_id) == ("ada", pk)


def test_an_inactive_user_may_nothing() -> None:
    user = User.objects.create_superuser("boss", is_active=False)
    assert not any(Actor.of_user(user).may(right) for right in Right)
