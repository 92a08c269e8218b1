"""Masking of a job's payload: arguments, result, meta and tracebacks need the right `view_payload`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from queue_app.domain.rights import Right
from queue_app.tasks.sensitive import MASK

__all__ = ["MASK", "MASKED", "masked_meta"]

#: The explanation shown beside `MASK`.
MASKED = f"Arguments, results, meta and tracebacks are masked: you need the right {Right.VIEW_PAYLOAD} to see them."

#: Keys of a job's meta that need no `view_payload`: who submitted the job, and in which request.
_PUBLIC = frozenset({"actor", "request_id"})


def masked_meta(meta: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A job's meta as a user without `view_payload` sees it: all values masked but the public ones."""
    if meta is None:
        return None
    return {name: value if name in _PUBLIC else MASK for name, value in meta.items()}
