"""Create, change, delete, pause and resume schedules, and run them now."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import transaction

from queue_app.domain.rights import Right
from queue_app.domain.serialization import NO_ARGUMENTS
from queue_app.models import Schedule
from queue_app.models.sql import write_alias
from queue_app.operations import audit
from queue_app.operations.actor import Actor
from queue_app.scheduling import schedules
from queue_app.scheduling.task_options import remember_options

#: Fields that operators set and that audit events record; the other fields are computed.
AUDITED_FIELDS = ("name", "task", "cron", "zone", "queue", "priority", "jitter", "missed", "paused")
#: Stands for arguments in audit events: readers of the audit may lack the right `view_payload`.
HIDDEN_ARGUMENTS = "(arguments)"


def create(actor: Actor, schedule: Schedule, *, reason: str = "") -> Schedule:
    """Write a new schedule, whose fields were checked.

    Raises:
        NotPermitted: the actor lacks `manage_schedule`.
        IntegrityError: there is one of this name.
        InvalidOption: the cron expression or the zone is wrong.
    """
    actor.require(Right.MANAGE_SCHEDULE)
    remember_options(schedule)  # may import the task's module, so not in the transaction
    with transaction.atomic(using=write_alias()):
        audit.write(
            actor, "create", "schedule", schedule.pk, after=_values(schedule, AUDITED_FIELDS), reason=reason
        )
        schedule.save(using=write_alias(), force_insert=True)
        schedules.tell("create schedule", schedule, actor.signal_user)
    return schedule


def change(
    actor: Actor, schedule: Schedule, fields: Iterable[str], *, keeps_arguments: bool = True, reason: str = ""
) -> Schedule:
    """Save only the named fields of a schedule, which were checked. A change of `paused` pauses or resumes it.
    If no value differs, no event is written.

    Args:
        schedule: has the new values.
        fields: their names.
        keeps_arguments: whether some of the stored arguments stay. A new task would receive them and could show them in
            an error, so this needs the right to see them.

    Raises:
        NotPermitted: the actor lacks `manage_schedule`; or `view_payload`, to give stored arguments to another task.
        InvalidOption: the cron expression or the zone is wrong.
    """
    actor.require(Right.MANAGE_SCHEDULE)
    wanted, paused = [name for name in fields if name != "paused"], schedule.paused
    if "task" in wanted:
        remember_options(schedule)  # as in `create`
    with transaction.atomic(using=write_alias()):
        row = _locked(schedule)
        if row is None:
            return schedule  # deleted meanwhile
        if (
            schedule.task != row.task
            and "task" in wanted
            and keeps_arguments
            and row.arguments != NO_ARGUMENTS
        ):
            actor.require(Right.VIEW_PAYLOAD)
        changed = [name for name in wanted if getattr(schedule, name) != getattr(row, name)]
        if changed:
            before, after = _values(row, changed), _values(schedule, changed)
            audit.write(actor, "change", "schedule", schedule.pk, before=before, after=after, reason=reason)
            schedules.tell("change schedule", schedule, actor.signal_user)
        if wanted:  # also what is the same: what the task says of its jobs may have changed
            schedule.save(using=write_alias(), update_fields=wanted)
        if "paused" in fields and row.paused != paused:
            schedule.paused = row.paused
            _set_paused(actor, schedule, paused, reason)
    return schedule


def delete(actor: Actor, schedule: Schedule, *, reason: str = "") -> None:
    """Delete a schedule, if it is still there; jobs that it has enqueued stay.

    Raises:
        NotPermitted: the actor lacks `manage_schedule`.
    """
    actor.require(Right.MANAGE_SCHEDULE)
    with transaction.atomic(using=write_alias()):
        row = _locked(schedule)
        if row is None:
            return
        before = _values(row, AUDITED_FIELDS)
        audit.write(actor, "delete", "schedule", schedule.pk, before=before, reason=reason)
        schedule.delete(using=write_alias())
        schedules.tell("delete schedule", schedule, actor.signal_user)


def pause(actor: Actor, schedule: Schedule, *, reason: str = "") -> Schedule:
    """Pause a schedule: it is not due any more; see `scheduling.schedules.pause`.

    Raises:
        NotPermitted: the actor lacks `manage_schedule`.
    """
    return _set_paused(actor, schedule, True, reason)


def resume(actor: Actor, schedule: Schedule, *, reason: str = "") -> Schedule:
    """Resume a schedule: it is due again, from now on.

    Raises:
        NotPermitted: the actor lacks `manage_schedule`.
        InvalidOption: its cron expression or its zone is wrong.
    """
    return _set_paused(actor, schedule, False, reason)


def run_now(actor: Actor, schedule: Schedule, *, reason: str = "") -> str:
    """Enqueue a run that may start at once; see `scheduling.schedules.run_now`.

    Returns:
        The id of the job.

    Raises:
        NotPermitted: the actor lacks `manage_schedule`.
        InvalidJob: it cannot be enqueued; says why.
    """
    actor.require(Right.MANAGE_SCHEDULE)
    if not schedule.task_options:
        remember_options(schedule)  # as in `create`
    with transaction.atomic(using=write_alias()):
        job_id = schedules.run_now(schedule, user=actor.signal_user, meta=actor.meta)
        audit.write(actor, "run", "schedule", schedule.pk, after=_named(schedule, job=job_id), reason=reason)
    return job_id


def _set_paused(actor: Actor, schedule: Schedule, paused: bool, reason: str) -> Schedule:
    actor.require(Right.MANAGE_SCHEDULE)
    with transaction.atomic(using=write_alias()):
        row = _locked(schedule)
        if row is None or row.paused == paused:
            schedule.paused = paused
            return schedule
        verb, before, after = (
            "pause" if paused else "resume",
            _named(row, paused=row.paused),
            _named(row, paused=paused),
        )
        audit.write(actor, verb, "schedule", schedule.pk, before=before, after=after, reason=reason)
        return (schedules.pause if paused else schedules.resume)(schedule, user=actor.signal_user)


def _locked(schedule: Schedule) -> Schedule | None:
    """The row as it is now; None: it was deleted."""
    return Schedule.objects.using(write_alias()).select_for_update().filter(pk=schedule.pk).first()


def _named(schedule: Schedule, **more: Any) -> dict[str, Any]:
    """The name of a schedule, for people who read the audit, with more values."""
    return {"name": schedule.name, **more}


def _values(schedule: Schedule, names: Iterable[str]) -> dict[str, Any]:
    values = {name: getattr(schedule, name) for name in names if name in AUDITED_FIELDS}
    return _named(schedule, **values) | ({"arguments": HIDDEN_ARGUMENTS} if "arguments" in names else {})
