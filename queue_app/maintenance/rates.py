"""What the samples of the duty `stats` say about a span of time, for the faces."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

from queue_app.dispatch import connection, figures
from queue_app.dispatch.figures import Figures, Sample
from queue_app.exceptions import StoreUnavailable


@dataclass(frozen=True, slots=True)
class Line:
    """A queue at the end of the span, and over it.

    Attributes:
        now: its figures in the latest sample.
        ended: attempts that ended within the span, by state.
        per_second: the same for each second; None while there are not two samples.
        mean_run: seconds that an attempt ran on average; None when none ended.
    """

    name: str
    now: Figures
    ended: dict[str, int]
    per_second: dict[str, float] | None
    mean_run: float | None


@dataclass(frozen=True, slots=True)
class Rates:
    """A span of time.

    Attributes:
        seconds: its length, from the first to the last of `samples`.
        lines: one for each queue of the last sample, by name.
        samples: oldest first; empty when none is kept.
    """

    seconds: float
    lines: list[Line]
    samples: list[Sample]


def over(seconds: float, timeout: float = 5.0) -> Rates:
    """What happened in the last so many seconds, up to the latest sample; one round trip.

    Args:
        timeout: seconds that Redis may take to answer.

    Raises:
        StoreUnavailable: Redis cannot be reached.
    """
    try:
        samples = figures.kept(connection.client(timeout))
    except connection.Unavailable as error:
        raise StoreUnavailable(connection.explain(error)) from error
    return within(samples, seconds)


def within(samples: list[Sample], seconds: float) -> Rates:
    """The last of these samples, oldest first, that span so many seconds; one more than fit, so that a span that is
    shorter than the time between two samples has an answer as well."""
    if not samples:
        return Rates(0.0, [], [])
    last = samples[-1]
    inside = [sample for sample in samples if sample.at > last.at - seconds]
    chosen = samples[-(len(inside) + 1) :]
    span = last.at - chosen[0].at
    return Rates(span, [_line(name, chosen, span) for name in sorted(last.queues)], chosen)


def _line(name: str, samples: list[Sample], span: float) -> Line:
    ended: Counter[str] = Counter()
    run_ms = 0
    for before, after in pairwise(samples):
        old, new = before.queues.get(name, Figures()), after.queues.get(name, Figures())
        # Numbers that have become less began anew: Redis had lost them.
        anew = sum(new.ended.values()) < sum(old.ended.values())
        for state, number in new.ended.items():
            ended[state] += number - (0 if anew else old.ended.get(state, 0))
        run_ms += new.run_ms - (0 if anew else old.run_ms)
    total = sum(ended.values())
    rates = {state: round(number / span, 3) for state, number in sorted(ended.items())} if span else None
    return Line(name, samples[-1].queues[name], dict(ended), rates, run_ms / total / 1000 if total else None)
