"""The figures of queues: what Redis holds of each just now, how attempts ended, and the samples that are kept of both.

They are figures, not the record: an acknowledgement that got lost is not counted, one that was repeated is counted
twice, and all begin at nothing when Redis has lost its data.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import redis

from queue_app.dispatch import keys

#: Samples that are kept; older ones are forgotten.
KEEP = 360
#: Queues in one sample, those with the most going on: a queue for each customer must not fill Redis.
MOST = 200


@dataclass(slots=True)
class Figures:
    """A queue at one moment.

    Attributes:
        waiting: jobs that may start.
        due_later: delayed jobs that were loaded because their time is near.
        held: jobs that children have claimed and not settled.
        set_aside: jobs that wait for a worker that knows their task.
        oldest: seconds for which the job that has waited longest of the first ones has waited; None: none waits.
        ended: attempts that have ended, by state: since Redis was last empty, or since the sample before.
        run_ms: milliseconds that they ran, in all.
    """

    waiting: int = 0
    due_later: int = 0
    held: int = 0
    set_aside: int = 0
    oldest: float | None = None
    ended: dict[str, int] = field(default_factory=dict)
    run_ms: int = 0

    @property
    def size(self) -> int:
        """How much is going on; 0: the queue is idle."""
        return self.waiting + self.due_later + self.held + self.set_aside + sum(self.ended.values())

    def since(self, before: Figures) -> Figures:
        """The same, with what has ended from `before` on. Numbers that have become less began anew: Redis had lost
        them."""
        if sum(self.ended.values()) < sum(before.ended.values()):
            before = Figures()
        left = {state: number - before.ended.get(state, 0) for state, number in self.ended.items()}
        ended = {state: number for state, number in left.items() if number > 0}
        return replace(self, ended=ended, run_ms=max(0, self.run_ms - before.run_ms))


_FIELDS = {f.name for f in fields(Figures)}


@dataclass(slots=True)
class Sample:
    """The queues at one moment, idle ones left out.

    Attributes:
        at: epoch seconds.
        seconds: the time before it in which was `ended` what the figures say so of; 0: nobody knows.
    """

    at: float
    seconds: float
    queues: dict[str, Figures]


def count(client: redis.Redis, queues: Sequence[str]) -> dict[str, Figures]:
    """The figures of these queues now, `oldest` left out; two round trips, whatever their number."""
    if not queues:
        return {}
    pipe = client.pipeline(transaction=False)
    for queue in queues:
        pipe.hlen(keys.body(queue))
        pipe.zcard(keys.due(queue))
        pipe.smembers(keys.holders(queue))
        pipe.smembers(keys.unknown(queue))
        pipe.hgetall(keys.ended(queue))
    answers = pipe.execute()
    found: dict[str, Figures] = {}
    several: list[tuple[Figures, str]] = []
    for n, queue in enumerate(queues):
        jobs, due, holders, needs, ended = answers[5 * n : 5 * n + 5]
        counts = {str(state): int(number) for state, number in ended.items()}
        run_ms = counts.pop("run_ms", 0)
        found[queue] = one = Figures(waiting=jobs - due, due_later=due, ended=counts, run_ms=run_ms)
        for holder in holders:
            pipe.hlen(keys.held(queue, holder))
            several.append((one, "held"))
        for need in needs:
            pipe.zcard(keys.unknown_of(queue, need))
            several.append((one, "set_aside"))
    for (one, name), number in zip(several, pipe.execute() if several else (), strict=True):
        setattr(one, name, getattr(one, name) + number)
    for one in found.values():
        one.waiting = max(0, one.waiting - one.held - one.set_aside)
    return found


def busiest(queues: dict[str, Figures]) -> dict[str, Figures]:
    """The `MOST` queues with the most going on, those first; idle ones left out."""
    names = sorted(queues, key=lambda name: queues[name].size, reverse=True)
    return {name: queues[name] for name in names[:MOST] if queues[name].size}


def keep(client: redis.Redis, sample: Sample) -> None:
    """Add a sample to those that are kept."""
    text = json.dumps(asdict(sample), separators=(",", ":"))
    pipe = client.pipeline(transaction=True)
    pipe.lpush(keys.stats(), text)
    pipe.ltrim(keys.stats(), 0, KEEP - 1)
    pipe.execute()


def kept(client: redis.Redis, count: int = KEEP) -> list[Sample]:
    """The latest samples, oldest first; fields of another release are left out."""
    texts: Iterable[Any] = client.lrange(keys.stats(), 0, count - 1)
    found = []
    for text in texts:
        one = json.loads(text)
        queues = {name: _figures(values) for name, values in one["queues"].items()}
        found.append(Sample(one["at"], one["seconds"], queues))
    return found[::-1]


def _figures(values: dict[str, Any]) -> Figures:
    return Figures(**{name: value for name, value in values.items() if name in _FIELDS})
