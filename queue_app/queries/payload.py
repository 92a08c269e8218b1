"""What is shown of a job's payload, its arguments, result, meta and tracebacks, to those who may see it."""

from __future__ import annotations

from queue_app.domain.rights import Right
from queue_app.tasks.sensitive import MASK

__all__ = ["MASK", "MASKED"]

#: Why `MASK` stands in place of what the viewer may not see.
MASKED = f"Arguments, results, meta and tracebacks are masked: you need the right {Right.VIEW_PAYLOAD} to see them."
