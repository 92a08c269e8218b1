"""Ticks: enqueue the jobs of schedules whose time has come. A tick is one time at which a schedule is due.

The jobs of a tick and the schedule's advance to its next tick commit together, so a crash leaves neither or both. The
rows are locked, and each advances only from the tick that was read. So two processes do not enqueue the same tick.

A tick is enqueued shortly before its time, with that time as `run_after`. So its jobs start on time to the millisecond,
although schedules are looked at only every few seconds.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from django.db import Error, connections, transaction
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Cast

from queue_app import clock, signals
from queue_app.domain import cron
from queue_app.exceptions import IllegalTransition, QueueAppError
from queue_app.lifecycle import store_health
from queue_app.lifecycle.callbacks import Check, no_check
from queue_app.models import Schedule
from queue_app.models.schedule import AHEAD, Missed
from queue_app.models.sql import write_alias
from queue_app.scheduling.schedules import Enqueue, enqueuer

#: Schedules in one transaction. One statement has eight parameters for each, and SQLite may allow 999.
SCHEDULES_PER_TRANSACTION = 100
#: Most ticks of one schedule that one transaction enqueues, if all missed ticks are to run.
MAX_MISSED_TICKS = 100
#: About how many jobs one transaction enqueues.
MAX_JOBS_PER_TRANSACTION = 1_000
#: Seconds after which the rest is left to the next call: other duties wait meanwhile.
MAX_RUN_SECONDS = 2.0
#: Seconds after its time at which a tick counts as missed: more than a change of the leader takes.
LATE_SECONDS = 60.0

_MINUTE = timedelta(minutes=1)


class CallSpec(NamedTuple):
    """The fields of a schedule that decide how its calls are enqueued."""

    task: str
    queue: str | None
    priority: int | None
    task_options: str


#: How calls are enqueued, or why they cannot be.
Enqueuers = Mapping[CallSpec, Enqueue | Exception]
#: Where a walk through the due schedules stands: behind the one with this `next_at` and id.
Position = tuple[datetime, UUID]


class Progress(NamedTuple):
    """What a call did.

    Attributes:
        jobs: how many it enqueued.
        unfinished: whether ticks are left for the next call, because many were missed or the time was over.
        position: where the next call goes on; None: at the beginning.
    """

    jobs: int = 0
    unfinished: bool = False
    position: Position | None = None


@dataclass(slots=True, eq=False)
class Plan:
    """What is to be done for a schedule.

    Attributes:
        enqueue: enqueues its calls.
        call: `(args, kwargs)`.
        ticks: the ticks to enqueue, oldest first.
        next_at: the tick after these.
        job_id: of the last of these ticks, once it is enqueued.
    """

    row: Schedule
    enqueue: Enqueue
    call: tuple[list[Any], dict[str, Any]]
    ticks: list[datetime]
    next_at: datetime
    job_id: UUID | None = None


def enqueue_due(
    after: Position | None = None, *, seconds: float = MAX_RUN_SECONDS, check: Check = no_check
) -> Progress:
    """Enqueue the ticks of schedules that are due, or will be within `AHEAD` seconds. If a schedule cannot be enqueued,
    the reason is written to its `error`, it stays due, and the others go on.

    Args:
        after: go on behind this position.
        seconds: how long to go on.
        check: called before each batch of writes.
    """
    began, jobs, unfinished, position = time.monotonic(), 0, False, after
    while True:
        due = Schedule.objects.using(write_alias()).filter(next_at__lte=_horizon(clock.now()))
        if position is not None:
            at, pk = position
            due = due.filter(Q(next_at__gt=at) | Q(next_at=at, pk__gt=pk))
        rows = due.order_by("next_at", "pk").values_list("next_at", "pk", *CallSpec._fields)
        part = list(rows[:SCHEDULES_PER_TRANSACTION])
        if part:
            enqueuers = _enqueuers(CallSpec(*row[2:]) for row in part)  # before any row is locked
            check()
            done = _enqueue_part([row[1] for row in part], enqueuers)
            jobs, unfinished = jobs + done.jobs, unfinished or done.unfinished
        if len(part) < SCHEDULES_PER_TRANSACTION:
            return Progress(jobs, unfinished)
        last, pk = part[-1][:2]
        position = (last, pk) if last else None
        if time.monotonic() - began >= seconds:
            return Progress(jobs, True, position)


def _sum(parts: Iterable[Progress]) -> Progress:
    found = list(parts)
    return Progress(sum(part.jobs for part in found), any(part.unfinished for part in found))


def _enqueuers(specs: Iterable[CallSpec]) -> Enqueuers:
    found: dict[CallSpec, Enqueue | Exception] = {}
    for spec in set(specs):
        try:
            found[spec] = enqueuer(*spec)
        except Exception as error:  # a backend may raise anything
            found[spec] = error
    return found


def _enqueue_part(pks: Sequence[UUID], enqueuers: Enqueuers, is_retry: bool = False) -> Progress:
    """Enqueue what is due of these schedules in a transaction; if that fails, of each in its own transaction."""
    errors: dict[UUID, Exception] = {}
    try:
        with transaction.atomic(using=write_alias()):
            done = _enqueue_locked(pks, enqueuers, errors)
    except IllegalTransition:  # another process enqueues the same tick
        raise
    except (
        Exception
    ) as error:  # one of them was refused, by the database or by code of the project: find out which
        is_outage = store_health.is_outage(error)
        if is_outage and not _is_database_writable():
            raise  # this is no schedule's fault
        if len(pks) > 1 or (is_outage and not is_retry):
            return _sum([_enqueue_part([pk], enqueuers, True) for pk in pks])
        done, errors = Progress(), {pks[0]: error}
    for pk, why in errors.items():
        _record_failure(pk, why)
    return done


def _is_database_writable() -> bool:
    try:
        store_health.check_writes()
    except Error:
        return False
    return True


def _enqueue_locked(pks: Sequence[UUID], enqueuers: Enqueuers, errors: dict[UUID, Exception]) -> Progress:
    """Lock these schedules and enqueue what is due of them, in the current transaction.

    Args:
        errors: the id of each schedule that cannot be enqueued is added to it, with the reason.
    """
    using, now = write_alias(), clock.now()
    # A locked schedule is being edited, or another process enqueues it. The next run comes early enough.
    skip = connections[using].features.has_select_for_update_skip_locked
    rows = Schedule.objects.using(using).select_for_update(skip_locked=skip).order_by("pk")
    plans: list[Plan] = []
    most = max(1, min(MAX_MISSED_TICKS, MAX_JOBS_PER_TRANSACTION // len(pks)))
    for row in rows.filter(pk__in=pks, next_at__lte=_horizon(now)):
        enqueue = enqueuers.get(CallSpec(row.task, row.queue, row.priority, row.task_options))
        if isinstance(enqueue, Exception):
            errors[row.pk] = enqueue
        elif enqueue is not None:  # None: it was edited just now
            try:
                plans.append(Plan(row, enqueue, row.call, *_ticks(row, now, most)))
            except Exception as error:  # what is wrong in one row must not stop the others
                errors[row.pk] = error
    _enqueue_jobs(plans, now)
    if plans:
        _advance(plans, using)
    return Progress(sum(len(plan.ticks) for plan in plans), any(plan.next_at <= now for plan in plans))


def _ticks(row: Schedule, now: datetime, most: int) -> tuple[list[datetime], datetime]:
    """The ticks of a schedule that are to be enqueued, at most so many, and the tick after them."""
    following = partial(cron.next_after, row.cron, row.zone)
    first, missed = row.next_at or now, now - timedelta(seconds=LATE_SECONDS)
    if row.missed == Missed.ONCE:
        first = _latest(following, first, now)
    elif row.missed == Missed.SKIP and first < missed:
        first = following(missed)
    found: list[datetime] = []
    while first <= _horizon(now) and len(found) < most:
        found.append(first)
        first = following(first)
    return found, first


def _latest(following: Callable[[datetime], datetime], first: datetime, now: datetime) -> datetime:
    """The last tick that is not after `now`, or `first` if there is none. It is found by bisection, as a schedule of
    every minute may have missed years."""
    high = now
    while high - first >= _MINUTE:
        middle = first + (high - first) / 2
        tick = following(middle)
        if tick <= now:
            first = tick
        else:
            high = middle
    return first


def _enqueue_jobs(plans: list[Plan], now: datetime) -> None:
    """Enqueue the ticks. Calls that differ only in their arguments are enqueued together."""
    groups: dict[tuple[Enqueue, datetime | None], list[tuple[Plan, datetime]]] = {}
    for plan in plans:
        for tick in plan.ticks:
            start = tick + timedelta(seconds=random.randint(0, plan.row.jitter))
            group = groups.setdefault((plan.enqueue, start if start > now else None), [])
            group.append((plan, tick))
    for (enqueue, run_after), members in groups.items():
        ids = enqueue([plan.call for plan, _ in members], run_after)
        for (plan, tick), job_id in zip(members, ids, strict=True):
            if tick == plan.ticks[-1]:
                plan.job_id = UUID(job_id)


def _advance(plans: list[Plan], using: str) -> None:
    """Set the next tick of the schedules in one statement, each only if it still is at the tick that was read.

    Raises:
        IllegalTransition: one of them has advanced meanwhile. This cannot happen on databases that lock rows.
    """
    unchanged = Q()
    for plan in plans:
        unchanged |= Q(pk=plan.row.pk, next_at=plan.row.next_at)
    values = {"next_at": _by_row({plan.row.pk: plan.next_at for plan in plans}, "next_at", using)}
    if ticked := [plan for plan in plans if plan.ticks]:
        values["last_at"] = _by_row({plan.row.pk: plan.ticks[-1] for plan in ticked}, "last_at", using)
        values["last_job_id"] = _by_row({plan.row.pk: plan.job_id for plan in ticked}, "last_job_id", using)
    if Schedule.objects.using(using).filter(unchanged).update(error="", **values) != len(plans):
        raise IllegalTransition("Another process has enqueued the same tick; nothing was enqueued here.")


def _by_row(values: Mapping[UUID, Any], name: str, using: str) -> Case | Cast:
    field: Any = Schedule._meta.get_field(name)
    cases = [When(pk=pk, then=Value(value, output_field=field)) for pk, value in values.items()]
    chosen = Case(*cases, default=F(name), output_field=field)
    casted = connections[using].features.requires_casted_case_in_updates
    return Cast(chosen, output_field=field) if casted else chosen


def _record_failure(pk: UUID, error: Exception) -> None:
    """Write to the row why it cannot be enqueued, and send a signal if the reason is new."""
    text = str(error) if isinstance(error, QueueAppError) else f"{type(error).__name__}: {error}"
    text = text.replace("\x00", "")[:1_000].strip()
    row = Schedule.objects.using(write_alias()).filter(pk=pk).first()
    if row is not None and row.error != text:
        Schedule.objects.using(write_alias()).filter(pk=pk).update(error=text)
        signals.schedule_failed.send_robust(sender=None, schedule=row.name, error=text)


def _horizon(now: datetime) -> datetime:
    return now + timedelta(seconds=AHEAD)
