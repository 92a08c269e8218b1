"""What a comparison says: each measure's medians, ratio and interval, and whether the goal holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.against.intervals import Ratio, ratio

#: How much worse a measure may become.
TOLERANCE = 0.05


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure of each round.

    Attributes:
        of: the part of `--only` that it belongs to.
        more: whether a larger figure is the better one.
    """

    key: str
    title: str
    unit: str
    of: str
    more: bool = False


MEASURES = (
    Measure("drain_worker_us", "drain: CPU of the worker", "µs a job", "drain"),
    Measure("drain_stores_us", "drain: CPU of the stores", "µs a job", "drain"),
    Measure("drain_us", "drain: CPU in all", "µs a job", "drain"),
    Measure("drain_per_s", "drain", "jobs/s", "drain", more=True),
    Measure("many_us", "enqueue_many: CPU in all", "µs a job", "many"),
    Measure("many_per_s", "enqueue_many", "jobs/s", "many", more=True),
    Measure("latency_p50", "latency p50", "ms", "latency"),
    Measure("latency_p99", "latency p99", "ms", "latency"),
    Measure("idle_percent", "idle worker, CPU", "% of a core", "idle"),
)

#: One round's figures of both sides, by key.
Pair = tuple[dict[str, float], dict[str, float]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A measure compared.

    Attributes:
        before, after: medians.
        ratio: after divided by before.
    """

    measure: Measure
    before: float
    after: float
    ratio: Ratio

    @property
    def cost(self) -> Ratio:
        """How many times as much it costs, or as long it takes, as before: below 1 is better."""
        return self.ratio.inverse() if self.measure.more else self.ratio

    @property
    def text(self) -> str:
        """The verdict in words."""
        low, high = self.cost.low, self.cost.high
        if low is None or high is None:
            return "one round says nothing"
        if low > 1 + TOLERANCE:
            return f"WORSE by more than {TOLERANCE:.0%}"
        if high > 1 + TOLERANCE:
            return f"UNDECIDED ({TOLERANCE:.0%}): take more rounds"
        if high < 1:
            return "better"
        return f"worse by less than {TOLERANCE:.0%}" if low > 1 else "no difference seen"


def judge(pairs: Sequence[Pair], only: Sequence[str]) -> list[Verdict]:
    """Compare what was measured in all rounds."""
    found = []
    for measure in MEASURES:
        if measure.of in only:
            before = [pair[0][measure.key] for pair in pairs]
            after = [pair[1][measure.key] for pair in pairs]
            found.append(Verdict(measure, median(before), median(after), ratio(before, after)))
    return found


def show(console: Console, verdicts: Sequence[Verdict], names: tuple[str, str], rounds: int) -> None:
    """Print the table."""
    table = Table(title=f"{names[1]} against {names[0]}, {rounds} rounds each", title_justify="left")
    for title in ("measure", names[0], names[1], "ratio", "95 % interval", "verdict"):
        table.add_column(title, justify="left" if title in ("measure", "verdict") else "right")
    for verdict in verdicts:
        r = verdict.ratio
        interval = "–" if r.low is None or r.high is None else f"{r.low:.3f} … {r.high:.3f}"
        unit = verdict.measure.unit
        table.add_row(
            f"{verdict.measure.title}, {unit}",
            number(verdict.before),
            number(verdict.after),
            f"{r.value:.3f}",
            interval,
            verdict.text,
        )
    console.print(table)


def number(value: float) -> str:
    """Rates without decimals, small figures with three digits that count."""
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}"


def as_json(verdicts: Sequence[Verdict], pairs: Sequence[Pair], names: tuple[str, str]) -> dict[str, Any]:
    """All of it for a file: medians, ratios, intervals, and the figures of each round."""
    return {
        "before": names[0],
        "after": names[1],
        "measures": {
            v.measure.key: {
                "unit": v.measure.unit,
                "before": v.before,
                "after": v.after,
                "ratio": v.ratio.value,
                "low": v.ratio.low,
                "high": v.ratio.high,
                "verdict": v.text,
            }
            for v in verdicts
        },
        "rounds": [{"before": before, "after": after} for before, after in pairs],
    }
