"""Pause, resume, create, edit and delete queues."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import transaction

from queue_app import signals
from queue_app.domain.names import check_queue
from queue_app.domain.rights import Right
from queue_app.lifecycle import operate
from queue_app.models import Queue
from queue_app.models.sql import write_alias
from queue_app.operations import audit
from queue_app.operations.actor import Actor


def pause(actor: Actor, name: str, *, reason: str = "") -> Queue:
    """Pause a queue: no job of it starts. Running jobs and enqueueing continue. A queue without a row gets one.

    Raises:
        NotPermitted: the actor lacks `operate_queue`.
        InvalidOption: the name is not a valid queue name.
    """
    return _set_paused(actor, name, True, reason)


def resume(actor: Actor, name: str, *, reason: str = "") -> Queue:
    """Resume a queue: its jobs start again.

    Raises:
        NotPermitted: the actor lacks `operate_queue`.
        InvalidOption: the name is not a valid queue name.
    """
    return _set_paused(actor, name, False, reason)


def create(actor: Actor, queue: Queue, *, reason: str = "") -> Queue:
    """Write the row of a queue that has none.

    Raises:
        NotPermitted: the actor lacks `operate_queue`.
        IntegrityError: the queue has a row already.
    """
    actor.require(Right.OPERATE_QUEUE)
    using, paused = write_alias(), queue.paused
    with transaction.atomic(using=using):
        audit.write(actor, "create", "queue", queue.pk, after=_values(queue), reason=reason)
        queue.paused = False
        queue.save(using=using, force_insert=True)
        if paused:  # so that Redis is told too
            operate.pause(queue.pk, user=actor.signal_user)
        queue.paused = paused
        _send_operated("create queue", actor, queue.pk)
    return queue


def edit(actor: Actor, name: str, values: Mapping[str, Any], *, reason: str = "") -> None:
    """Change only the given fields of a queue's row: another operator may have changed the others meanwhile.
    If no value differs, no event is written.

    Args:
        values: field → value, already checked.

    Raises:
        NotPermitted: the actor lacks `operate_queue`.
        Queue.DoesNotExist: it has no row.
    """
    actor.require(Right.OPERATE_QUEUE)
    using = write_alias()
    with transaction.atomic(using=using):
        row = Queue.objects.using(using).select_for_update().get(pk=name)
        changes = {
            field: value
            for field, value in values.items()
            if field != "paused" and value != getattr(row, field)
        }
        if changes:
            before = {field: getattr(row, field) for field in changes}
            audit.write(actor, "edit", "queue", name, before=before, after=changes, reason=reason)
            for field, value in changes.items():
                setattr(row, field, value)
            row.save(using=using, update_fields=list(changes))
            _send_operated("edit queue", actor, name)
        if "paused" in values:
            _set_paused(actor, name, values["paused"], reason)


def delete(actor: Actor, name: str, *, reason: str = "") -> None:
    """Delete the row of a queue, if it has one: its jobs stay, and it is not paused any more.

    Raises:
        NotPermitted: the actor lacks `operate_queue`.
    """
    actor.require(Right.OPERATE_QUEUE)
    using = write_alias()
    with transaction.atomic(using=using):
        row = Queue.objects.using(using).select_for_update().filter(pk=name).first()
        if row is None:
            return
        audit.write(actor, "delete", "queue", name, before=_values(row), reason=reason)
        if row.paused:  # a queue without a row is not paused, so Redis must not think so either
            operate.resume(name, user=actor.signal_user)
        row.delete()
        _send_operated("delete queue", actor, name)


def _set_paused(actor: Actor, name: str, paused: bool, reason: str) -> Queue:
    actor.require(Right.OPERATE_QUEUE)
    using = write_alias()
    check_queue(name)
    with transaction.atomic(using=using):
        row = Queue.objects.using(using).select_for_update().filter(pk=name).first()
        was = row is not None and row.paused
        if row is None and not paused:
            return Queue(name=name)  # it is not paused, and needs no row for that
        if was != paused:
            verb, before, after = "pause" if paused else "resume", {"paused": was}, {"paused": paused}
            audit.write(actor, verb, "queue", name, before=before, after=after, reason=reason)
        # Also if the row is in this state already: Redis may have missed the change.
        return (operate.pause if paused else operate.resume)(name, user=actor.signal_user)


def _values(row: Queue) -> dict[str, Any]:
    return {field.name: getattr(row, field.name) for field in Queue._meta.concrete_fields}


def _send_operated(verb: str, actor: Actor, name: str) -> None:
    signals.operated.send_robust(
        sender=None, verb=verb, user=actor.signal_user, count=1, filter={"queue": name}
    )
