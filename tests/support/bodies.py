"""Bodies for tests that care for little of what is in them."""

from __future__ import annotations

from typing import Any

from queue_app.domain.delivery import encode
from queue_app.domain.envelope import LANE, Envelope

PLAIN: dict[str, Any] = {
    "priority": 0,
    "lane": LANE,
    "task": "tests.app.tasks.noop",
    "number": 1,
    "failures": 0,
    "deaths": 0,
    "max_attempts": 1,
    "enqueued_at": 1.0,
    "run_after": None,
    "started_at": None,
    "timeout": None,
    "backend": "",
    "suspect": False,
    "meta": None,
}


def body(payload: str = "[[],{}]", limit: int = 10**6, **said: Any) -> str:
    """A body; what is not said is that of a plain job."""
    return encode(Envelope(**(PLAIN | said)), payload, limit)
