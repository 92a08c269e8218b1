"""Rules for the values of options that tasks, calls, schedules and the API share."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings as django_settings
from django.utils import timezone

from queue_app import clock, conf
from queue_app.exceptions import InvalidOption


def whole(name: str, value: Any) -> None:
    if value is not None and (
        isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1000
    ):
        raise InvalidOption(f"{name} is {value!r}; use a whole number from 1 to 1000.")


def seconds(name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.01 <= value <= clock.LONGEST:
        raise InvalidOption(f"{name} is {value!r}; use a number of seconds, 0.01 or more.")


def run_after(value: datetime | timedelta | float | None) -> datetime | None:
    """When a job may start: an aware datetime, or a delay as a timedelta or in seconds.

    Raises:
        InvalidOption: a naive datetime, a time that is not between `clock.EARLIEST` and `clock.LATEST`, or something
            else.
    """
    if value is None:
        return None
    if isinstance(value, datetime):
        at = value
        if timezone.is_naive(value):
            if django_settings.USE_TZ:
                raise InvalidOption(
                    f"run_after is {value!r}, which has no time zone; use django.utils.timezone.now() + timedelta(…)."
                )
            at = timezone.make_aware(value)
        if not clock.EARLIEST <= at <= clock.LATEST:
            raise _out_of_reach(value)
        return at
    if isinstance(value, timedelta):
        delay = value.total_seconds()
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidOption(
            f"run_after is {value!r}; use an aware datetime, a timedelta or a number of seconds."
        )
    else:
        delay = value
    now = clock.seconds()
    if not clock.EARLIEST.timestamp() - now <= delay <= clock.LATEST.timestamp() - now:
        raise _out_of_reach(value)
    return clock.from_seconds(now + delay)


def _out_of_reach(value: Any) -> InvalidOption:
    # Python refuses to write a whole number of thousands of digits.
    shown = "too large" if isinstance(value, int) and abs(value) > 1e300 else repr(value)
    between = f"{clock.EARLIEST.date()} and {clock.LATEST.date()}"
    return InvalidOption(
        f"run_after is {shown}; use a time between {between} (UTC), or a delay that leads there."
    )


def unknown(given: Any, known: tuple[str, ...], what: str) -> None:
    """Refuse options that do not exist.

    Raises:
        InvalidOption: names the first and the one that was probably meant.
    """
    for name in given:
        if name not in known:
            hint = conf.did_you_mean(name, known)
            raise InvalidOption(f"{what} has no option {name!r}.{hint} It takes {', '.join(known)}.")
