"""Conditions that select rows: by time, by the start of an id, open dead letters, audit events by target."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from queue_app import clock
from queue_app.domain import ids
from queue_app.exceptions import InvalidOption
from queue_app.models import DeadLetter
from queue_app.models.audit_event import KINDS

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}
_ago = re.compile(r"(\d{1,9})\s*([smhdw])").fullmatch
_hexadecimal = re.compile(r"[0-9a-f]+").fullmatch

#: Fewest hexadecimal digits that count as the start of an id. The first eight digits of a UUIDv7 give its time to about
#: a minute. A shorter text is more likely a word.
MIN_ID_DIGITS = 8


def parse_since(text: str) -> datetime:
    """Parse a time in the past: an ISO date or time (default zone: the current one), or an age such as `2h` or `3d`.

    Raises:
        InvalidOption: it is neither, or lies in the future.
    """
    value = _point(text.strip())
    if value is None:
        raise InvalidOption(
            f"since is {text[:64]!r}; use an ISO date or time such as 2026-11-22 or 2026-11-22T08:00:00Z, or an age"
            " such as 90s, 30m, 2h, 3d or 1w."
        )
    if value.timestamp() > clock.seconds():
        raise InvalidOption(f"since is {text[:64]!r}, which is in the future.")
    return value


def _point(text: str) -> datetime | None:
    if age := _ago(text):
        seconds = int(age[1]) * _UNITS[age[2]]
        return clock.now() - timedelta(seconds=seconds) if seconds <= clock.LONGEST else None
    try:
        found = parse_datetime(text)
        if found is None and (day := parse_date(text)) is not None:
            found = datetime(day.year, day.month, day.day)
        if found is not None and timezone.is_naive(found):
            found = timezone.make_aware(found)
        return None if found is None else clock.from_seconds(found.timestamp())
    except (ValueError, OverflowError):  # such as a 31st of November, or the year 1 east of Greenwich
        return None


def dead_letters(
    task: str | None = None,
    queue: str | None = None,
    since: datetime | None = None,
    fingerprint: str | None = None,
) -> QuerySet[DeadLetter]:
    """The open dead letters, newest first. Each argument that is given narrows them: those not older than `since`, of
    this task, this queue, this fingerprint."""
    letters = DeadLetter.objects.filter(replayed_at__isnull=True)
    if task is not None:
        letters = letters.filter(task=task)
    if queue is not None:
        letters = letters.filter(queue=queue)
    if fingerprint is not None:
        letters = letters.filter(fingerprint=fingerprint)
    if since is not None:
        # The id is made just after that time: a range of the primary key, with an hour for clocks that are set back.
        letters = letters.filter(created_between(after=since - timedelta(hours=1)), created_at__gte=since)
    return letters


def targets(target: str) -> Q | None:
    """The condition that an audit event is about a target; None if the kind does not exist.

    Args:
        target: a kind (`queue`), one row of a kind (`queue:mail`), or bulk events of a kind (`job:`).
    """
    kind, colon, target_id = target.partition(":")
    if kind not in KINDS:
        return None
    return Q(target_kind=kind, target_id=target_id) if colon else Q(target_kind=kind)


def created_between(field: str = "pk", *, after: datetime | None = None, before: datetime | None = None) -> Q:
    """The condition that a row was created at or after `after`, and before `before`.

    Ids are UUIDv7, so this is a range of the primary key: no scan, even of a large table.
    """
    condition = Q()
    if after is not None:
        condition &= Q(**{f"{field}__gte": _first_id(after)})
    if before is not None:
        condition &= Q(**{f"{field}__lt": _first_id(before)})
    return condition


def _first_id(moment: datetime) -> UUID:
    return ids.floor(max(0.0, moment.timestamp()))


def id_starts_with(text: str, field: str = "pk") -> Q | None:
    """The condition that an id starts with `text`, with or without dashes; None if no id can start with it."""
    digits = text.strip().lower().replace("-", "")
    if not MIN_ID_DIGITS <= len(digits) <= 32 or not _hexadecimal(digits):
        return None
    first, last = UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
    return Q(**{f"{field}__gte": first, f"{field}__lte": last})
