"""Throughput and waiting over a span of time, from the samples of the duty `stats`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from queue_app.dispatch import connection, queue_stats
from queue_app.dispatch.queue_stats import QueueStats, Sample


@dataclass(frozen=True, slots=True)
class QueueRates:
    """A queue at the end of the span, and over it.

    Attributes:
        now: its figures in the latest sample.
        ended: attempts that ended within the span, by state.
        per_second: the same for each second; None while that is not known.
        mean_run: seconds that an attempt ran on average; None when none ended.
    """

    name: str
    now: QueueStats
    ended: dict[str, int]
    per_second: dict[str, float] | None
    mean_run: float | None


@dataclass(frozen=True, slots=True)
class Rates:
    """A span of time.

    Attributes:
        seconds: its length, as far as it is known what ended in it.
        lines: one for each queue that was not idle in it, by name.
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
    """What happened in the last so many seconds, up to the latest sample; one round trip.

    Args:
        timeout: seconds that Redis may take to answer.

    Raises:
        StoreUnavailable: Redis cannot be reached.
    """
    with connection.asked(timeout) as client:
        # One each ten seconds; each change of the leader makes one more.
        samples = queue_stats.load(client, int(seconds / 5) + 5)
    return within(samples, seconds)


def within(samples: list[Sample], seconds: float) -> Rates:
    """The last of these samples, oldest first, that span so many seconds; at least one."""
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
