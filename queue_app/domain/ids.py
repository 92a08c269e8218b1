"""Job ids: UUIDv7, so that ids sort by the time they were made and index pages fill in order."""

from __future__ import annotations

import uuid
from collections.abc import Callable

try:
    from uuid import uuid7 as _uuid7  # type: ignore[attr-defined]  # Python 3.14
except ImportError:
    from uuid_utils import uuid7 as _uuid7  # monotonic within a process, like the standard one

new_text: Callable[[], str] = lambda: str(_uuid7())  # noqa: E731 - one call less on the hot path


def new_id() -> uuid.UUID:
    """A new UUIDv7 as a standard `uuid.UUID`."""
    return uuid.UUID(int=_uuid7().int)


def floor(seconds: float) -> uuid.UUID:
    """The smallest UUIDv7 of the millisecond at `seconds` since the epoch (for range queries by age)."""
    return uuid.UUID(int=(int(seconds * 1000) << 80) | (0x7 << 76) | (0x2 << 62))


def made_at(value: uuid.UUID) -> float:
    """When a UUIDv7 was made, in seconds since the epoch (millisecond precision)."""
    return (value.int >> 80) / 1000
