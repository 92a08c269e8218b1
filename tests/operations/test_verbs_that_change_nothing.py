"""What verbs write into the audit when there is nothing to change, and from which row they take `before`."""

from __future__ import annotations

from typing import Any

import pytest

from queue_app import clock
from queue_app.domain.rights import Right
from queue_app.exceptions import AppendOnly, NotPermitted
from queue_app.models import AuditEvent, DeadLetter, Job, Queue, Schedule
from queue_app.operations import dead_letters, queues, schedules
from queue_app.operations.actor import MAX_REQUEST_ID_LENGTH, Actor
from tests.support.factories import (
    AuditEventFactory,
    DeadLetterFactory,
    JobFactory,
    QueueFactory,
    ScheduleFactory,
)

pytestmark = pytest.mark.django_db

ANN, BOB = Actor.system("ann"), Actor.system("bob")


def events() -> list[tuple[str, Any, Any]]:
    return list(AuditEvent.objects.order_by("id").values_list("verb", "before", "after"))


def test_a_paused_queue_is_paused_once() -> None:
    for _ in range(2):
        queues.pause(ANN, "mail")
    assert events() == [("pause", {"paused": False}, {"paused": True})]


def test_to_resume_a_queue_without_a_row_makes_none() -> None:
    assert not queues.resume(ANN, "never").paused
    assert events() == [] and not Queue.objects.exists()


def test_values_that_a_queue_has_already_leave_no_event() -> None:
    QueueFactory(name="mail", max_attempts=3)
    queues.edit(ANN, "mail", {"max_attempts": 3, "timeout": 5.0})
    queues.edit(ANN, "mail", {"max_attempts": 3})
    assert events() == [("edit", {"timeout": None}, {"timeout": 5.0})]


def test_before_is_what_the_row_says_and_not_what_the_caller_had_read() -> None:
    schedule = ScheduleFactory(name="nightly")
    stale = Schedule.objects.get()
    schedules.pause(ANN, schedule)
    schedules.pause(BOB, stale)
    schedules.change(BOB, stale, ["jitter"])
    assert events() == [("pause", {"name": "nightly", "paused": False}, {"name": "nightly", "paused": True})]


def test_a_schedule_is_deleted_once() -> None:
    stale = ScheduleFactory()
    schedules.delete(ANN, Schedule.objects.get())
    schedules.delete(BOB, stale)
    assert [event.actor for event in AuditEvent.objects.all()] == ["ann"]


def test_a_letter_that_is_closed_alone_is_closed_and_told() -> None:
    letters = [JobFactory(state="failed").dead_letters.get(), DeadLetterFactory()]
    Job.objects.update(state="cancelled")  # by hand
    for letter in letters:
        dead_letters.replay(ANN, [letter.pk])
    assert not DeadLetter.objects.filter(replayed_at=None).exists()
    assert [verb for verb, _, _ in events()] == ["replay", "replay"]


# who may give stored arguments to another task


def manager(django_user_model: Any, *rights: Right) -> Actor:
    from django.contrib.auth.models import Permission

    user = django_user_model.objects.create_user("eve", is_staff=True)
    names = [right.value.partition(".")[2] for right in (Right.MANAGE_SCHEDULE, *rights)]
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    return Actor.of_user(user)


@pytest.mark.parametrize(
    "arguments,rights,keeps,allowed",
    [
        ('[["4111"],{}]', (), True, False),
        ('[["4111"],{}]', (), False, True),
        ('[["4111"],{}]', (Right.VIEW_PAYLOAD,), True, True),
        ("[[],{}]", (), True, True),
    ],
)
def test_stored_arguments_go_to_another_task_with_the_right_to_see_them(
    django_user_model: Any, arguments: str, rights: tuple[Right, ...], keeps: bool, allowed: bool
) -> None:
    schedule, actor = ScheduleFactory(arguments=arguments), manager(django_user_model, *rights)
    schedule.task = "tests.app.tasks.echo"
    try:
        schedules.change(actor, schedule, ["task"], keeps_arguments=keeps)
    except NotPermitted as error:
        assert not allowed and Right.VIEW_PAYLOAD in str(error)
    else:
        assert allowed
    assert (Schedule.objects.get().task == "tests.app.tasks.echo") is allowed
    assert AuditEvent.objects.exists() is allowed


def test_a_run_by_hand_carries_its_actor() -> None:
    schedules.run_now(ANN, ScheduleFactory(task="tests.app.tasks.noop"))
    assert '"name":"ann"' in (Job.objects.get().meta or "")


# append-only


def test_events_cannot_be_written_over() -> None:
    event = AuditEventFactory(at=clock.now(), reason="was")
    other = AuditEvent(pk=event.pk, actor="mallory", actor_kind="user", verb="x", target_kind="job")
    for forge in (
        lambda: AuditEvent.objects.bulk_create(
            [other], update_conflicts=True, unique_fields=["id"], update_fields=["actor"]
        ),
        lambda: AuditEvent._base_manager.update(reason="forged"),
        lambda: AuditEvent._base_manager.all().delete(),
    ):
        with pytest.raises(AppendOnly):
            forge()
    assert AuditEvent.objects.get().reason == "was"


@pytest.mark.parametrize(
    "given,kept",
    [
        ("x" * MAX_REQUEST_ID_LENGTH, "x" * MAX_REQUEST_ID_LENGTH),
        ("x" * (MAX_REQUEST_ID_LENGTH + 1), ""),
        ("a\nb", ""),
    ],
)
def test_the_id_of_a_request_is_bounded(django_user_model: Any, given: str, kept: str) -> None:
    assert Actor.of_user(django_user_model(username="eve"), given).request_id == kept
