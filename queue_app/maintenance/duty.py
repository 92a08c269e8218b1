"""What a duty is: a name, an interval, and one function that does it once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import redis


@dataclass(frozen=True, slots=True)
class Duty:
    """Something done again and again by the leader.

    Attributes:
        name: one word.
        interval: seconds between two runs; a quarter of jitter is added.
        run: does it once, and returns how many rows or jobs it touched.
    """

    name: str
    interval: float
    run: Callable[[redis.Redis, str], int]
