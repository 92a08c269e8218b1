"""Waiting for what happens in other processes: never a bare sleep, always a condition and a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(predicate: Callable[[], T], timeout: float = 10.0, message: str | Callable[[], str] = "") -> T:
    """Return the first true value of `predicate()`.

    Args:
        predicate: Asked at once, then every few milliseconds.
        timeout: Seconds until the test fails.
        message: What was waited for, or a function that describes how things stand when the time is up.

    Raises:
        AssertionError: the time is up.
    """
    deadline = time.monotonic() + timeout
    pause = 0.002
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() >= deadline:
            said = message() if callable(message) else message
            raise AssertionError(
                f"not within {timeout:g} s: {said or 'the condition'} (last value: {value!r})"
            )
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
