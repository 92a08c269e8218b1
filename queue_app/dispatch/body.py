"""What Redis carries of a waiting job, and what a claim makes of it.

A body is `<priority>:<lane>|` (all that the scripts read) and then two JSON arrays, one after the other:

    [task, number, failures, deaths, max_attempts, enqueued_at, run_after, started_at, timeout, backend]
    [args, kwargs]

with times in epoch seconds (exact to the microsecond) or null. In place of the second there is null when the arguments
are larger than BODY_LIMIT: they are then read from the record. All before the arguments is the same for all jobs of an
`enqueue_many`, so that it is read once for many; its only `]` is its end. A suspect has `true` after its backend.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

#: The lane of jobs that share no limit with others.
LANE = "-"

#: How many fields the first array has.
_FIELDS = 10

#: `json.loads` without its checks, from a position on: bodies are ours, and this runs once for each job.
_scan: Any = vars(json.JSONDecoder())["scan_once"]
#: What stands before the arguments → what it says; the latest.
_heads: dict[str, tuple[Any, ...]] = {}


class Delivery:
    """One hand-out of a job.

    Attributes:
        number: the attempt that this delivery is; its outcome counts only if the record expects this one.
        claimed_at: epoch milliseconds, on the clock of Redis.
        unreadable: the body is not one that this release understands (another one's, in a rolling deploy): to be made
            anew from the record, not to be run. Only id, queue and raw are then meaningful.
        heard: what the child's place on the board had been told (see worker.shared) when it was found out that this
            one may begin; before it was claimed, at first.
        suspect: its process died in an attempt before, and it may have been the cause: to be run alone in its process.
        history: the attempts before this one, oldest first, as `(worker_id, error_class, traceback)`.
    """

    __slots__ = (
        "args",
        "backend",
        "claimed_at",
        "deaths",
        "enqueued_at",
        "failures",
        "heard",
        "history",
        "id",
        "kwargs",
        "lane",
        "max_attempts",
        "number",
        "priority",
        "queue",
        "raw",
        "run_after",
        "started_at",
        "suspect",
        "task",
        "timeout",
        "unreadable",
    )

    id: str
    args: list[Any] | None
    kwargs: dict[str, Any]
    started_at: float | None

    def __init__(self, queue: str, id: str, raw: str, claimed_at: float) -> None:
        self.queue = queue
        self.id = id
        self.raw = raw
        self.claimed_at = claimed_at
        self.history: Sequence[tuple[str, str, str]] = ()
        self.unreadable = False
        self.heard = 0
        try:
            self._read(raw)
        except (ValueError, TypeError, StopIteration):
            self.unreadable = True
            self.task, self.number, self.failures, self.deaths, self.backend = "?", 0, 0, 0, ""
            self.args, self.kwargs, self.started_at, self.suspect = None, {}, None, False

    def _read(self, raw: str) -> None:
        end = raw.index("]", raw.index("|")) + 1
        head = raw[:end]
        said = _heads.get(head)
        if said is None:
            said = _read_head(head)
        (
            self.priority,
            self.lane,
            self.task,
            self.number,
            self.failures,
            self.deaths,
            self.max_attempts,
            self.enqueued_at,
            self.run_after,
            self.started_at,
            self.timeout,
            self.backend,
            self.suspect,
        ) = said
        payload = _scan(raw, end)[0]
        if payload is None:
            self.args, self.kwargs = None, {}
        else:
            self.args, self.kwargs = payload

    def __repr__(self) -> str:
        return f"<Delivery {self.number} of {self.task} {self.id}>"


def _read_head(head: str) -> tuple[Any, ...]:
    route, _, array = head.partition("|")
    priority, _, lane = route.partition(":")
    fields = json.loads(array)
    suspect = len(fields) > _FIELDS and fields[_FIELDS] is True
    if len(fields) != _FIELDS + suspect:
        raise ValueError("a body of another release")
    said = (int(priority), lane, *fields[:_FIELDS], suspect)
    if len(_heads) >= 1_000:
        _heads.clear()
    _heads[head] = said
    return said


def encode_many(
    payloads: Iterable[str],
    *,
    task: str,
    number: int,
    failures: int,
    deaths: int,
    max_attempts: int,
    priority: int,
    enqueued_at: float,
    run_after: float | None,
    started_at: float | None,
    timeout: float | None,
    backend: str,
    limit: int,
    lane: str = LANE,
    suspect: bool = False,
) -> list[str]:
    """The bodies of jobs that differ in their arguments alone.

    Args:
        payloads: JSON texts `[[args…], {kwargs…}]`; one is left out when longer than `limit` characters.
        number: the attempt that the next delivery will be.
        enqueued_at, run_after, started_at: epoch seconds.
        timeout: seconds, None for the task's own.
    """
    # Put together by hand: the payload is JSON text already, and this runs once for each job.
    head = (
        f"{priority}:{lane}|[{_string(task)},{number},{failures},{deaths},{max_attempts},{enqueued_at!r},"
        f"{_number(run_after)},{_number(started_at)},{_number(timeout)},{_string(backend)}{',true' * suspect}]"
    )
    return [head + payload if len(payload) <= limit else head + "null" for payload in payloads]


def assemble(priority: int, head: str, payload: str | None) -> str:
    """A body of parts that are JSON text already.

    Args:
        head: the array before the arguments.
        payload: the arguments; None when they stay in the record.
    """
    if head.find("]") < len(head) - 1:
        head = json.dumps(json.loads(head), ensure_ascii=False)[:-1].replace("]", "\\u005d") + "]"
    return f"{priority}:{LANE}|{head}{payload or 'null'}"


def encode(*, payload: str, **values: Any) -> str:
    """The body of one job; the arguments are those of `encode_many`."""
    return encode_many([payload], **values)[0]


def _string(text: str) -> str:
    return json.encoder.encode_basestring(text).replace("]", "\\u005d")


def _number(value: float | None) -> str:
    return "null" if value is None else repr(value)
