"""Figures of queues: what Redis holds of each now, how attempts ended, and samples of both.

They are figures, not the record. An acknowledgement that got lost is not counted. One that was repeated is counted
twice. All counts begin at zero when Redis has lost its data.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from heapq import nlargest
from typing import Any

import redis

from queue_app.dispatch import keys, listing
from queue_app.dispatch.listing import Count

#: Samples that are kept; older ones are dropped.
MAX_SAMPLES = 360
#: The busiest queues that one sample has: a queue for each customer must not fill Redis.
MAX_QUEUES_PER_SAMPLE = 200


@dataclass(slots=True)
class QueueStats:
    """A queue at one moment.

    Attributes:
        waiting: jobs that may start.
        due_later: delayed jobs that were loaded because their time is near.
        held: jobs that children have claimed and not settled.
        set_aside: jobs that wait for a worker that knows their task.
        oldest: seconds that the longest-waiting of the first jobs has waited; None: none waits.
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

    def size_since(self, before: QueueStats) -> int:
        """Jobs there are, plus attempts ended since `before`; 0: the queue is idle."""
        ended, earlier = sum(self.ended.values()), sum(before.ended.values())
        ended -= earlier if earlier <= ended else 0
        return self.waiting + self.due_later + self.held + self.set_aside + ended

    def since(self, before: QueueStats) -> QueueStats:
        """The same, with only what has ended since `before`. If the numbers are lower, Redis lost its data and they
        began anew."""
        if sum(self.ended.values()) < sum(before.ended.values()):
            before = QueueStats()
        left = {state: number - before.ended.get(state, 0) for state, number in self.ended.items()}
        ended = {state: number for state, number in left.items() if number > 0}
        return replace(self, ended=ended, run_ms=max(0, self.run_ms - before.run_ms))


_FIELDS = {f.name for f in fields(QueueStats)}
_NOTHING = QueueStats()


@dataclass(slots=True)
class Sample:
    """The queues at one moment, idle ones left out.

    Attributes:
        at: epoch seconds.
        seconds: the time before it that the figures `ended` cover; 0: not known.
    """

    at: float
    seconds: float
    queues: dict[str, QueueStats]


def count(client: redis.Redis, queues: Sequence[str]) -> dict[str, QueueStats]:
    """The figures of these queues now, `oldest` left out; one round trip. Many are asked for in parts (listing.py)."""
    return {queue: _figures_of(one) for queue, one in listing.counts(client, queues).items()}


def _figures_of(one: Count) -> QueueStats:
    ended = dict(one.ended)
    run_ms = ended.pop("run_ms", 0)
    return QueueStats(one.waiting, one.due_later, one.held, one.set_aside, None, ended, run_ms)


def busiest(
    queues: Mapping[str, QueueStats], before: Mapping[str, QueueStats] | None = None
) -> dict[str, QueueStats]:
    """At most MAX_QUEUES_PER_SAMPLE queues, busiest first, with what has ended since `before`, without idle ones."""
    before = before or {}
    sizes = {name: one.size_since(before.get(name, _NOTHING)) for name, one in queues.items()}
    names = nlargest(MAX_QUEUES_PER_SAMPLE, sizes, key=sizes.__getitem__)
    return {name: queues[name].since(before.get(name, _NOTHING)) for name in names if sizes[name]}


def save(client: redis.Redis, sample: Sample) -> None:
    """Keep a sample."""
    text = json.dumps(asdict(sample), separators=(",", ":"))
    pipe = client.pipeline(transaction=False)
    pipe.lpush(keys.stats(), text)
    pipe.ltrim(keys.stats(), 0, MAX_SAMPLES - 1)
    pipe.execute()


def load(client: redis.Redis, count: int = MAX_SAMPLES) -> list[Sample]:
    """The latest samples, oldest first. Fields of another release are left out."""
    texts: Iterable[Any] = client.lrange(keys.stats(), 0, count - 1)
    found = []
    for text in texts:
        one = json.loads(text)
        queues = {name: _figures(values) for name, values in one["queues"].items()}
        found.append(Sample(one["at"], one["seconds"], queues))
    return found[::-1]


def _figures(values: dict[str, Any]) -> QueueStats:
    return QueueStats(**{name: value for name, value in values.items() if name in _FIELDS})
