"""What is shown of a job's payload, its arguments, result, meta and tracebacks, to those who may see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from queue_app.domain.rights import Right
from queue_app.tasks.sensitive import MASK

__all__ = ["MASK", "MASKED", "masked_meta"]

#: Why `MASK` stands in place of what the viewer may not see.
MASKED = f"Arguments, results, meta and tracebacks are masked: you need the right {Right.VIEW_PAYLOAD} to see them."

#: What of a job's meta may be seen with the job: who submitted it, and in which request.
_PUBLIC = frozenset({"actor", "request_id"})


def masked_meta(meta: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A job's meta for somebody without `view_payload`."""
    if meta is None:
        return None
    return {name: value if name in _PUBLIC else MASK for name, value in meta.items()}
