"""Throughput and waiting over a span of time, from the samples of the duty `stats`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from queue_app.dispatch import connection, queue_stats
from queue_app.dispatch.queue_stats import QueueStats, Sample


@dataclass(frozen=True, slots=True)
class QueueRates:
    """Numbers of one queue: at the end of a span, and over the whole span.

    Attributes:
        now: its numbers in the latest sample.
        ended: attempts that ended within the span, by state.
        per_second: `ended` divided by the span; None if the span is 0.
        mean_run: seconds that an attempt ran on average; None when none ended.
    """

    name: str
    now: QueueStats
    ended: dict[str, int]
    per_second: dict[str, float] | None
    mean_run: float | None


@dataclass(frozen=True, slots=True)
class Rates:
    """Throughput over a span of time.

    Attributes:
        seconds: the length of the span that the samples cover.
        lines: one for each queue that was not idle in the span, sorted by name.
        samples: oldest first; empty when none is kept.
    """

    seconds: float
    lines: list[QueueRates]
    samples: list[Sample]

    @property
    def at(self) -> float | None:
        """Epoch seconds of the latest sample; None when none is kept."""
        return self.samples[-1].at if self.samples else None


def over(seconds: float, timeout: float = 5.0) -> Rates:
    """Throughput over the last `seconds`, up to the latest sample; one round trip to Redis.

    Args:
        seconds: the length of the span.
        timeout: seconds that Redis may take to answer.

    Raises:
        StoreUnavailable: Redis cannot be reached.
    """
    with connection.asked(timeout) as client:
        # One sample each ten seconds, and one more for each change of the leader.
        samples = queue_stats.load(client, int(seconds / 5) + 5)
    return within(samples, seconds)


def within(samples: list[Sample], seconds: float) -> Rates:
    """Throughput from those of the samples, oldest first, that lie in the last `seconds`; the latest always counts."""
    if not samples:
        return Rates(0.0, [], [])
    begin = samples[-1].at - seconds
    spanned = [sample for sample in samples[:-1] if sample.at - sample.seconds >= begin] + samples[-1:]
    span = sum(sample.seconds for sample in spanned)
    names = sorted({name for sample in spanned for name in sample.queues})
    return Rates(span, [_rates(name, spanned, span) for name in names], spanned)


def _rates(name: str, samples: list[Sample], span: float) -> QueueRates:
    figures = [sample.queues[name] for sample in samples if name in sample.queues]
    ended: Counter[str] = Counter()
    for one in figures:
        ended.update(one.ended)
    total, run_ms = sum(ended.values()), sum(one.run_ms for one in figures)
    return QueueRates(
        name=name,
        now=samples[-1].queues.get(name, QueueStats()),
        ended=dict(ended),
        per_second={state: round(number / span, 3) for state, number in sorted(ended.items())}
        if span
        else None,
        mean_run=run_ms / total / 1000 if total else None,
    )
