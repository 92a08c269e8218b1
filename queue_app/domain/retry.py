"""Whether and when a failed job is tried again: a pure value and a pure function.

The schedule (2 s doubling to a cap) and the two jitters are those of Marc Brooker's "Exponential Backoff And
Jitter" (AWS Architecture Blog, 2015); `equal` keeps half of the delay fixed so that a retry is never immediate.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from queue_app import clock, conf
from queue_app.domain.states import DeadReason
from queue_app.exceptions import Discard, InvalidOption, Retry, Snooze

#: The latest that anything may be put off to, in epoch seconds.
_LATEST = clock.LATEST.timestamp()


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How failed attempts of a task are followed.

    Args:
        base: seconds before the first retry.
        factor: each later retry waits this many times longer.
        cap: most seconds between two attempts.
        jitter: "full", "equal" or "none".
        only: exception classes that are worth a retry; None means all.
        never: exception classes that are not; wins over `only`.
        delay: own function `(failures, exception) -> seconds | None`; None gives up. Replaces the schedule.
    """

    base: float = 2.0
    factor: float = 2.0
    cap: float = 300.0
    jitter: str = "equal"
    only: tuple[type[BaseException], ...] | None = None
    never: tuple[type[BaseException], ...] = ()
    delay: Callable[[int, BaseException], float | None] | None = None

    def __post_init__(self) -> None:
        if self.jitter not in ("full", "equal", "none"):
            raise InvalidOption(f"jitter is {self.jitter!r}; use 'full', 'equal' or 'none'.")
        for name, least in (("base", 0), ("factor", 1), ("cap", 0)):
            value = getattr(self, name)
            if (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or not least <= value < float("inf")
            ):
                raise InvalidOption(f"backoff has the {name} {value!r}; use a number of {least} or more.")
        for name in ("only", "never"):
            classes = getattr(self, name)
            if classes is not None and not (isinstance(classes, tuple) and all(map(_is_exception, classes))):
                raise InvalidOption(f"backoff has {name!r} {classes!r}; use a tuple of exception classes.")

    def seconds(self, failures: int, rand: Callable[[], float] = random.random) -> float:
        """The delay in seconds before the attempt that follows the `failures`-th failure (1, 2, …)."""
        try:
            delay = min(self.cap, self.base * float(self.factor) ** (failures - 1))
        except OverflowError:  # the cap was reached long ago
            delay = self.cap if self.base else 0.0
        if self.jitter == "full":
            return delay * rand()
        if self.jitter == "equal":
            return delay / 2 + delay / 2 * rand()
        return delay

    def covers(self, exception: BaseException) -> bool:
        """Whether this exception is worth a retry."""
        if isinstance(exception, self.never):
            return False
        return self.only is None or isinstance(exception, self.only)


def _is_exception(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows a failed attempt: a time to try again, or the reason why not.

    Attributes:
        run_at: epoch seconds of the next attempt; None when there is none.
        counts: whether the attempt counts as a failure.
        reason: why there is no further attempt.
    """

    run_at: float | None
    counts: bool = True
    reason: DeadReason | None = None


def default_policy() -> RetryPolicy:
    """The policy of the settings."""
    s = conf.get()
    return RetryPolicy(
        base=s.BACKOFF_BASE, factor=s.BACKOFF_FACTOR, cap=s.BACKOFF_CAP, jitter=s.BACKOFF_JITTER
    )


def policy_from(value: Any) -> RetryPolicy | None:
    """A policy from what a task's `backoff=` may be: None, a RetryPolicy, seconds, a dict of its fields, or an
    own function `(failures, exception) -> seconds | None`.

    Raises:
        InvalidOption: anything else.
    """
    if value is None or isinstance(value, RetryPolicy):
        return value
    if isinstance(value, bool):
        raise InvalidOption("backoff must be seconds, a dict, a RetryPolicy or a function, not a bool.")
    if isinstance(value, int | float):
        return RetryPolicy(base=float(value), factor=1.0, cap=float(value), jitter="none")
    if isinstance(value, dict):
        for name in value:
            if name not in RetryPolicy.__dataclass_fields__:
                hint = conf.did_you_mean(str(name), RetryPolicy.__dataclass_fields__)
                raise InvalidOption(f"backoff has the unknown field {name!r}.{hint}")
        fields = dict(value)
        for name in ("only", "never"):
            if isinstance(fields.get(name), type):
                fields[name] = (fields[name],)
            elif isinstance(fields.get(name), list):
                fields[name] = tuple(fields[name])
        return RetryPolicy(**fields)
    if callable(value):
        return RetryPolicy(delay=value)
    raise InvalidOption(f"backoff must be seconds, a dict, a RetryPolicy or a function, not {value!r}.")


def decide(
    policy: RetryPolicy | None, exception: BaseException, *, failures: int, max_attempts: int, now: float
) -> Decision:
    """What follows an attempt that raised `exception`. The only place that decides "again or dead".

    Args:
        policy: the task's policy; None is that of the settings.
        exception: what the task raised.
        failures: how many attempts of this job have failed before this one (lost and snoozed ones not counted).
        max_attempts: how many may fail in all.
        now: epoch seconds.
    """
    if isinstance(exception, Snooze):
        return Decision(when(exception.after, now), counts=False)
    if isinstance(exception, Discard):
        return Decision(None, reason=DeadReason.DISCARDED)
    policy = policy or default_policy()
    if not isinstance(exception, Retry) and not policy.covers(exception):
        return Decision(None, reason=DeadReason.NOT_RETRYABLE if max_attempts > 1 else DeadReason.EXHAUSTED)
    failures += 1
    if failures >= max_attempts:
        return Decision(None, reason=DeadReason.EXHAUSTED)
    if isinstance(exception, Retry) and exception.after is not None:
        return Decision(when(exception.after, now))
    if policy.delay is not None:
        own = policy.delay(failures, exception)
        return Decision(None, reason=DeadReason.NOT_RETRYABLE) if own is None else Decision(when(own, now))
    return Decision(when(policy.seconds(failures), now))


def when(after: float | timedelta | datetime, now: float) -> float:
    """Epoch seconds of a delay in seconds, a timedelta or an aware datetime; never before `now`, nor after
    `clock.LATEST`."""
    if isinstance(after, datetime):
        if after.tzinfo is None:
            raise InvalidOption(
                f"{after!r} has no time zone; use django.utils.timezone.now() + timedelta(...)."
            )
        return min(max(after.timestamp(), now), _LATEST)
    if isinstance(after, timedelta):
        after = after.total_seconds()
    elif isinstance(after, bool) or not isinstance(after, int | float):
        raise InvalidOption(f"a delay must be seconds, a timedelta or an aware datetime, not {after!r}.")
    elif after != after:
        raise InvalidOption("a delay must be seconds, a timedelta or an aware datetime, not NaN.")
    return now + min(max(after, 0), _LATEST - now)  # compared first: a whole number may be too large to add
