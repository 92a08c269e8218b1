"""What is shown of a job's payload: its arguments, its result and its tracebacks, to those who may see them."""

from __future__ import annotations

from queue_app.operations.actor import Right

#: In place of what the viewer may not see.
MASK = "•••"

#: Why it is there.
MASKED = f"Arguments, results and tracebacks are masked: you need the right {Right.VIEW_PAYLOAD} to see them."
