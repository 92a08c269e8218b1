"""What Redis carries of a waiting job, and what a claim makes of it.

A body is a head (see domain/envelope.py) and then the arguments: `[args, kwargs]` as JSON, or null when they are larger
than BODY_LIMIT: they are then read from the record. The head is the same for all jobs of an `enqueue_many`: it is made
once, and read once, for many.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from queue_app.domain.envelope import Envelope, head_of

#: `json.loads` without its checks, from a position on: bodies are ours, and this runs once for each job.
_scan: Any = vars(json.JSONDecoder())["scan_once"]
#: In place of a head that cannot be read.
_NOTHING = '0:-|["?",0,0,0,0,0,null,null,null,""]'


class Delivery(Envelope):
    """One hand-out of a job.

    Attributes:
        number: the attempt that this delivery is; its outcome counts only if the record expects this one.
        claimed_at: epoch milliseconds, on the clock of Redis.
        unreadable: the body is not one that this release understands (another one's, in a rolling deploy): to be made
            anew from the record, not to be run. Only id, queue and raw are then meaningful.
        recheck_seen: value of the child's `SharedState.recheck_counter` before the claim, or at the last check whether
            this delivery may still start.
        history: the attempts before this one, oldest first, as `(worker_id, error_class, traceback)`.
    """

    __slots__ = (
        "args",
        "claimed_at",
        "history",
        "id",
        "kwargs",
        "queue",
        "raw",
        "recheck_seen",
        "unreadable",
    )

    args: list[Any] | None
    kwargs: dict[str, Any]

    def __init__(self, queue: str, id: str, raw: str, claimed_at: float) -> None:
        self.queue = queue
        self.id = id
        self.raw = raw
        self.claimed_at = claimed_at
        self.history: Sequence[tuple[str, str, str]] = ()
        self.unreadable = False
        self.recheck_seen = 0
        try:
            end = raw.index("]", raw.index("|")) + 1
            self.read(raw[:end])
            payload = _scan(raw, end)[0]
            if payload is None:
                self.args, self.kwargs = None, {}
            else:
                self.args, self.kwargs = payload
        except (ValueError, TypeError, StopIteration):
            self.unreadable = True
            self.read(_NOTHING)
            self.args, self.kwargs = None, {}

    @property
    def payload(self) -> str:
        """The arguments as the body has them: a task may have changed those that it was given."""
        return self.raw[self.raw.index("]", self.raw.index("|")) + 1 :]

    def __repr__(self) -> str:
        return f"<Delivery {self.number} of {self.task} {self.id}>"


def encode_many(envelope: Envelope, payloads: Iterable[str], limit: int) -> list[str]:
    """The bodies of jobs that differ in their arguments alone.

    Args:
        payloads: JSON texts `[[args…], {kwargs…}]`; one is left out when longer than `limit` characters.
    """
    # Put together by hand: the payload is JSON text already, and this runs once for each job.
    head = head_of(envelope)
    return [head + payload if len(payload) <= limit else head + "null" for payload in payloads]


def encode(envelope: Envelope, payload: str, limit: int) -> str:
    """The body of one job; the arguments are those of `encode_many`."""
    return encode_many(envelope, [payload], limit)[0]
