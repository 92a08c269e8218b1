"""Names that people type: of queues, and of priorities."""

from __future__ import annotations

import re

from queue_app.exceptions import InvalidOption

QUEUE_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}\Z"
QUEUE_NAME_HELP = (
    "A queue's name is 1–64 letters, digits, '_', '-' or '.', and starts with a letter or digit."
)
_queue_name = re.compile(QUEUE_NAME).match

PRIORITIES = {"critical": 75, "high": 50, "normal": 0, "low": -50}


def check_queue(name: object) -> str:
    """The name, if it may name a queue.

    Raises:
        InvalidOption: it may not.
    """
    if not isinstance(name, str) or not _queue_name(name):
        raise InvalidOption(f"queue_name is {name!r}. {QUEUE_NAME_HELP}")
    return name


def priority_of(value: object) -> int:
    """The priority as a number: an integer from -100 to 100, or one of critical, high, normal, low.

    Raises:
        InvalidOption: it is neither.
    """
    if isinstance(value, str) and value in PRIORITIES:
        return PRIORITIES[value]
    if isinstance(value, bool) or not isinstance(value, int) or not -100 <= value <= 100:
        raise InvalidOption(
            f"priority is {value!r}; use a whole number from -100 to 100, or one of {', '.join(PRIORITIES)}."
        )
    return int(value)
