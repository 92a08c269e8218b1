"""Again or dead, and when: pure values, so no store and no clock."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from queue_app.domain.retry import Decision, RetryPolicy, decide, default_policy, policy_from, when
from queue_app.domain.states import DeadReason
from queue_app.exceptions import Discard, InvalidOption, Retry, Snooze, SoftTimeout

NOW = 1_800_000_000.0
LATEST = datetime(9999, 12, 31, tzinfo=UTC).timestamp()
PLAIN = RetryPolicy(jitter="none")

policies = st.builds(
    RetryPolicy,
    base=st.floats(0, 1e6),
    factor=st.floats(1, 1e6),
    cap=st.floats(0, 1e6),
    jitter=st.sampled_from(["full", "equal", "none"]),
)


def decided(error: BaseException, policy: RetryPolicy | None = PLAIN, **kwargs: Any) -> Decision:
    return decide(policy, error, **({"failures": 0, "max_attempts": 4, "now": NOW} | kwargs))


# the schedule


def test_the_default_schedule_doubles_from_two_seconds_to_five_minutes() -> None:
    assert [PLAIN.seconds(n) for n in range(1, 11)] == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


@given(policies, st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_delay_stays_within_its_bounds(policy: RetryPolicy, failures: int, luck: float) -> None:
    try:
        full = min(policy.cap, policy.base * policy.factor ** (failures - 1))
    except OverflowError:
        full = policy.cap if policy.base else 0.0
    delay = policy.seconds(failures, lambda: luck)
    lowest = {"full": 0.0, "equal": full / 2, "none": full}[policy.jitter]
    assert lowest <= delay <= full <= policy.cap
    assert math.isfinite(delay)


@given(policies, st.integers(1, 100))
def test_without_luck_a_delay_never_shrinks(policy: RetryPolicy, failures: int) -> None:
    assert policy.seconds(failures, lambda: 0.5) <= policy.seconds(failures + 1, lambda: 0.5)


def test_jitter_spreads_delays() -> None:
    delays = {RetryPolicy(jitter="full").seconds(5) for _ in range(50)}
    assert len(delays) > 40
    assert min(delays) < 16 < max(delays)  # around the middle of 0…32; missed once in 2**49 runs


@pytest.mark.parametrize(
    "fields",
    [{"base": -1}, {"cap": -0.1}, {"factor": 0.5}, {"base": math.nan}, {"cap": math.inf}, {"jitter": "some"}],
)
def test_an_impossible_policy_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption, match=rf"{next(iter(fields))} .*; use "):
        RetryPolicy(**fields)


@override_settings(
    QUEUE_APP={"BACKOFF_BASE": 1, "BACKOFF_FACTOR": 3, "BACKOFF_CAP": 5, "BACKOFF_JITTER": "none"}
)
def test_the_default_policy_is_that_of_the_settings() -> None:
    assert [default_policy().seconds(n) for n in (1, 2, 3)] == [1, 3, 5]
    assert decided(ValueError(), None, failures=1) == Decision(NOW + 3)


# again or dead


def test_a_failure_is_tried_again_until_the_attempts_are_used_up() -> None:
    assert decided(ValueError(), failures=0) == Decision(NOW + 2)
    assert decided(ValueError(), failures=2) == Decision(NOW + 8)
    assert decided(ValueError(), failures=3) == Decision(None, reason=DeadReason.EXHAUSTED)
    assert decided(ValueError(), max_attempts=1) == Decision(None, reason=DeadReason.EXHAUSTED)


@given(policies, st.integers(0, 50), st.integers(1, 50))
def test_there_is_either_a_time_or_a_reason(policy: RetryPolicy, failures: int, attempts: int) -> None:
    decision = decided(KeyError("x"), policy, failures=failures, max_attempts=attempts)
    assert (decision.run_at is None) is (decision.reason is not None)
    assert (decision.run_at is None) is (failures + 1 >= attempts)
    assert decision.run_at is None or decision.run_at >= NOW


def test_only_and_never_choose_the_exceptions() -> None:
    only = RetryPolicy(only=(LookupError,), jitter="none")
    assert decided(KeyError(), only).run_at == NOW + 2  # a subclass
    assert decided(ValueError(), only).reason is DeadReason.NOT_RETRYABLE
    never = RetryPolicy(only=(LookupError,), never=(KeyError,), jitter="none")
    assert decided(KeyError(), never).reason is DeadReason.NOT_RETRYABLE
    assert decided(IndexError(), never).run_at == NOW + 2


def test_a_job_with_one_attempt_is_exhausted_whatever_it_raised() -> None:
    assert (
        decided(ValueError(), RetryPolicy(never=(ValueError,)), max_attempts=1).reason is DeadReason.EXHAUSTED
    )


def test_a_time_limit_is_a_failure_like_others() -> None:
    assert decided(SoftTimeout()).run_at == NOW + 2


# what tasks raise


def test_retry_with_its_own_delay() -> None:
    assert decided(Retry(after=90)) == Decision(NOW + 90)
    assert decided(Retry(after=timedelta(minutes=2))) == Decision(NOW + 120)
    assert decided(Retry(after=datetime.fromtimestamp(NOW + 7, UTC))) == Decision(NOW + 7)
    assert decided(Retry()) == Decision(NOW + 2)
    assert decided(Retry(after=0)) == Decision(NOW)


def test_retry_asks_for_more_but_not_beyond_the_attempts() -> None:
    assert decided(Retry(after=1), RetryPolicy(only=(KeyError,))) == Decision(NOW + 1)
    assert decided(Retry(after=1), failures=3).reason is DeadReason.EXHAUSTED


def test_snooze_is_no_failure_and_has_no_end() -> None:
    assert decided(Snooze(30), failures=3, max_attempts=1) == Decision(NOW + 30, counts=False)


def test_discard_ends_at_once() -> None:
    assert decided(Discard("no use")) == Decision(None, reason=DeadReason.DISCARDED)


def test_an_own_function_decides() -> None:
    seen = []

    def delay(failures: int, error: BaseException) -> float | None:
        seen.append((failures, type(error)))
        return None if isinstance(error, KeyError) else failures * 10.0

    policy = RetryPolicy(delay=delay)
    assert decided(ValueError(), policy, failures=1) == Decision(NOW + 20)
    assert decided(KeyError(), policy).reason is DeadReason.NOT_RETRYABLE
    assert seen == [(2, ValueError), (1, KeyError)]


# times


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_time_is_neither_past_nor_out_of_reach(after: float) -> None:
    assert NOW <= when(after, NOW) <= LATEST
    datetime.fromtimestamp(when(after, NOW), UTC)  # a date that can be written


def test_a_time_in_another_zone() -> None:
    there = datetime.fromtimestamp(NOW + 60, timezone(timedelta(hours=-5)))
    assert when(there, NOW) == NOW + 60


@pytest.mark.parametrize(
    "after,said",
    [
        (datetime(2030, 1, 1), "has no time zone"),
        ("5", "must be seconds"),
        (True, "must be seconds"),
        (math.nan, "not NaN"),
    ],
)
def test_a_wrong_delay_is_refused(after: Any, said: str) -> None:
    with pytest.raises(InvalidOption, match=said):
        when(after, NOW)


def test_an_endless_delay_still_gives_a_date() -> None:
    datetime.fromtimestamp(when(math.inf, NOW), UTC)
    far = RetryPolicy(base=1e300, cap=1e300, jitter="none")
    assert decided(ValueError(), far).run_at == LATEST


def test_a_retry_may_be_far_off() -> None:
    at = datetime(2999, 1, 1, tzinfo=UTC)
    assert when(at, NOW) == at.timestamp()
    assert when(timedelta(days=900 * 365), NOW) == NOW + 900 * 365 * 86_400
    for endless in (datetime.max.replace(tzinfo=UTC), timedelta.max, 10**400, 1e300):
        assert when(endless, NOW) == LATEST
    for past in (
        datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
        timedelta.min,
        -(10**400),
        -1e300,
    ):
        assert when(past, NOW) == NOW


# what `backoff=` may be


def test_backoff_as_seconds_is_a_fixed_delay() -> None:
    policy = policy_from(1.5)
    assert policy is not None and {policy.seconds(n) for n in (1, 2, 9)} == {1.5}


def test_backoff_as_a_dict() -> None:
    policy = policy_from({"base": 1, "jitter": "none", "only": OSError, "never": [TimeoutError]})
    assert policy == RetryPolicy(base=1, jitter="none", only=(OSError,), never=(TimeoutError,))


def test_backoff_as_it_is() -> None:
    assert policy_from(None) is None
    assert policy_from(PLAIN) is PLAIN
    own = policy_from(lambda failures, error: 3.0)
    assert own is not None and decided(ValueError(), own) == Decision(NOW + 3)


@pytest.mark.parametrize(
    "value,said",
    [
        (True, "not a bool"),
        ("5s", "not '5s'"),
        ({"bas": 1}, r"unknown field 'bas'\. Did you mean 'base'\?"),
        (-1, "base -1.0; use a number of 0 or more"),
        ({"jitter": "ful"}, "use 'full', 'equal' or 'none'"),
        ({"only": "ValueError"}, "'only' 'ValueError'; use a tuple of exception classes"),
        ({"never": [ValueError, 5]}, "'never' .*, 5"),
        ({"only": 5}, "'only' 5"),
        ({"base": "2"}, "base '2'; use a number"),
        ({"base": None}, "base None"),
    ],
)
def test_a_wrong_backoff_is_refused(value: Any, said: str) -> None:
    with pytest.raises(InvalidOption, match=said):
        policy_from(value)
