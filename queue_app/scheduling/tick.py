"""Tick: enqueue the jobs of schedules whose time has come, each tick once.

The jobs of a tick and the schedule's move to its next one commit together, so a crash leaves neither or both. The rows
are locked, and each moves only from the tick that was read, so two who tick at once do not enqueue the same one.

Ticks are enqueued shortly before their time, with that as their `run_after`: so jobs start on time to the millisecond,
through the dispatch's own clock, although schedules are looked at every few seconds only.
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
from queue_app.lifecycle.release import Check, unchecked
from queue_app.models import Schedule
from queue_app.models.schedule import AHEAD, Missed
from queue_app.models.sql import write_alias
from queue_app.scheduling.schedules import Enqueue, enqueuer

#: Schedules in one transaction: eight parameters of each go into one statement, and SQLite may allow 999.
SCHEDULES_PER_TRANSACTION = 100
#: Ticks of one schedule that one go enqueues, where all that were missed shall run; of all in one transaction, about.
MAX_MISSED_TICKS, MAX_JOBS_PER_TRANSACTION = 100, 1_000
#: Seconds after which the rest is left to the next call: other duties wait behind it.
MAX_RUN_SECONDS = 2.0
#: Seconds after its time from which on a tick is missed: more than a change of the leader takes.
LATE_SECONDS = 60.0

_MINUTE = timedelta(minutes=1)


class Way(NamedTuple):
    """What of a schedule says how its calls are enqueued."""

    task: str
    queue: str | None
    priority: int | None
    task_options: str


#: How calls are enqueued, or why they cannot be.
Ways = Mapping[Way, Enqueue | Exception]
#: A place among the schedules that are due: when, and which.
Place = tuple[datetime, UUID]


class Ticked(NamedTuple):
    """What a tick did.

    Attributes:
        jobs: how many it enqueued.
        unfinished: whether some that were missed, or that its time was too short for, are left for the next one.
        behind: where that one goes on; None: from the beginning.
    """

    jobs: int = 0
    unfinished: bool = False
    behind: Place | None = None


@dataclass(slots=True, eq=False)
class Plan:
    """What is to become of a schedule.

    Attributes:
        ticks: those to enqueue, oldest first.
        next_at: where it stands then.
        job_id: of the last tick, once it is enqueued.
    """

    row: Schedule
    enqueue: Enqueue
    call: tuple[list[Any], dict[str, Any]]
    ticks: list[datetime]
    next_at: datetime
    job_id: UUID | None = None


def tick(after: Place | None = None, *, seconds: float = MAX_RUN_SECONDS, check: Check = unchecked) -> Ticked:
    """Enqueue the ticks of schedules that are due, or will be within `AHEAD` seconds. A schedule of which that cannot
    be done keeps its place, says why in `error`, and does not stop the others.

    Args:
        after: go on behind this place.
        seconds: how long to go on.
        check: asked before each batch of writes.
    """
    began, jobs, unfinished, behind = time.monotonic(), 0, False, after
    while True:
        due = Schedule.objects.using(write_alias()).filter(next_at__lte=_ahead_of(clock.now()))
        if behind is not None:
            at, pk = behind
            due = due.filter(Q(next_at__gt=at) | Q(next_at=at, pk__gt=pk))
        rows = due.order_by("next_at", "pk").values_list("next_at", "pk", *Way._fields)
        part = list(rows[:SCHEDULES_PER_TRANSACTION])
        if part:
            ways = _ways(Way(*row[2:]) for row in part)  # before any row is locked
            check()
            done = _tick_some([row[1] for row in part], ways)
            jobs, unfinished = jobs + done.jobs, unfinished or done.unfinished
        if len(part) < SCHEDULES_PER_TRANSACTION:
            return Ticked(jobs, unfinished)
        last, pk = part[-1][:2]
        behind = (last, pk) if last else None
        if time.monotonic() - began >= seconds:
            return Ticked(jobs, True, behind)


def _sum(parts: Iterable[Ticked]) -> Ticked:
    found = list(parts)
    return Ticked(sum(one.jobs for one in found), any(one.unfinished for one in found))


def _ways(wanted: Iterable[Way]) -> Ways:
    found: dict[Way, Enqueue | Exception] = {}
    for way in set(wanted):
        try:
            found[way] = enqueuer(*way)
        except Exception as error:  # a backend may raise anything
            found[way] = error
    return found


def _tick_some(pks: Sequence[UUID], ways: Ways, again: bool = False) -> Ticked:
    errors: dict[UUID, Exception] = {}
    try:
        with transaction.atomic(using=write_alias()):
            done = _enqueue_due(pks, ways, errors)
    except IllegalTransition:  # another process ticks
        raise
    except Exception as error:  # the database, or code of the project, refused one of them: find out which
        out = store_health.is_outage(error)
        if out and not _able():
            raise  # no schedule is to blame
        if len(pks) > 1 or (out and not again):
            return _sum([_tick_some([pk], ways, True) for pk in pks])
        done, errors = Ticked(), {pks[0]: error}
    for pk, why in errors.items():
        _record_failure(pk, why)
    return done


def _able() -> bool:
    """Whether the database can be written now."""
    try:
        store_health.check_writes()
    except Error:
        return False
    return True


def _enqueue_due(pks: Sequence[UUID], ways: Ways, errors: dict[UUID, Exception]) -> Ticked:
    """Enqueue what is due of these schedules, in the current transaction.

    Args:
        errors: where to put what is wrong with which.
    """
    using, now = write_alias(), clock.now()
    # One that is locked is being edited, or another process ticks; the next run comes early enough.
    skip = connections[using].features.has_select_for_update_skip_locked
    rows = Schedule.objects.using(using).select_for_update(skip_locked=skip).order_by("pk")
    plans: list[Plan] = []
    most = max(1, min(MAX_MISSED_TICKS, MAX_JOBS_PER_TRANSACTION // len(pks)))
    for row in rows.filter(pk__in=pks, next_at__lte=_ahead_of(now)):
        way = ways.get(Way(row.task, row.queue, row.priority, row.task_options))
        if isinstance(way, Exception):
            errors[row.pk] = way
        elif way is not None:  # else it was edited just now
            try:
                plans.append(Plan(row, way, row.call, *_ticks(row, now, most)))
            except Exception as error:  # what is wrong in one row must not stop the others
                errors[row.pk] = error
    _enqueue(plans, now)
    if plans:
        _move(plans, using)
    return Ticked(sum(len(plan.ticks) for plan in plans), any(plan.next_at <= now for plan in plans))


def _ticks(row: Schedule, now: datetime, most: int) -> tuple[list[datetime], datetime]:
    """The ticks of a schedule that are to be enqueued, and the one after them."""
    following = partial(cron.next_after, row.cron, row.zone)
    first, missed = row.next_at or now, now - timedelta(seconds=LATE_SECONDS)
    if row.missed == Missed.ONCE:
        first = _latest(following, first, now)
    elif row.missed == Missed.SKIP and first < missed:
        first = following(missed)
    found: list[datetime] = []
    while first <= _ahead_of(now) and len(found) < most:
        found.append(first)
        first = following(first)
    return found, first


def _latest(following: Callable[[datetime], datetime], first: datetime, now: datetime) -> datetime:
    """The last tick that is not after `now`, or `first` if there is none. Found by halving the time in between: years
    of minutes may have been missed."""
    high = now
    while high - first >= _MINUTE:
        middle = first + (high - first) / 2
        tick = following(middle)
        if tick <= now:
            first = tick
        else:
            high = middle
    return first


def _enqueue(plans: list[Plan], now: datetime) -> None:
    """Enqueue the ticks: in one go what is alike but for its arguments."""
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


def _move(plans: list[Plan], using: str) -> None:
    """Let the schedules go on, each from the tick that was read, in one statement.

    Raises:
        IllegalTransition: one of them is elsewhere by now. Where rows can be locked that cannot be.
    """
    here = Q()
    for plan in plans:
        here |= Q(pk=plan.row.pk, next_at=plan.row.next_at)
    values = {"next_at": _by_row({plan.row.pk: plan.next_at for plan in plans}, "next_at", using)}
    if ticked := [plan for plan in plans if plan.ticks]:
        values["last_at"] = _by_row({plan.row.pk: plan.ticks[-1] for plan in ticked}, "last_at", using)
        values["last_job_id"] = _by_row({plan.row.pk: plan.job_id for plan in ticked}, "last_job_id", using)
    if Schedule.objects.using(using).filter(here).update(error="", **values) != len(plans):
        raise IllegalTransition("Another process has ticked at the same time; nothing was enqueued here.")


def _by_row(values: Mapping[UUID, Any], name: str, using: str) -> Case | Cast:
    field: Any = Schedule._meta.get_field(name)
    cases = [When(pk=pk, then=Value(value, output_field=field)) for pk, value in values.items()]
    chosen = Case(*cases, default=F(name), output_field=field)
    casted = connections[using].features.requires_casted_case_in_updates
    return Cast(chosen, output_field=field) if casted else chosen


def _record_failure(pk: UUID, error: Exception) -> None:
    """Say in the row why it cannot be enqueued; and to everybody, unless the row says so already."""
    text = str(error) if isinstance(error, QueueAppError) else f"{type(error).__name__}: {error}"
    text = text.replace("\x00", "")[:1_000].strip()
    row = Schedule.objects.using(write_alias()).filter(pk=pk).first()
    if row is not None and row.error != text:
        Schedule.objects.using(write_alias()).filter(pk=pk).update(error=text)
        signals.schedule_failed.send_robust(sender=None, schedule=row.name, error=text)


def _ahead_of(now: datetime) -> datetime:
    return now + timedelta(seconds=AHEAD)
