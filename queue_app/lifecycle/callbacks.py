"""Callbacks of long work: the leader proves with them that it still leads, and limits the time."""

from __future__ import annotations

from collections.abc import Callable

#: Called before each batch of writes, or in a loop. Raises if the caller may not go on (a leader that was deposed).
Check = Callable[[], None]


def no_check() -> None:
    """No-op check for callers outside the leader."""


def never() -> bool:
    """No time limit, for callers outside the leader."""
    return False
