"""How much of what is measured."""

from __future__ import annotations

from dataclasses import dataclass, replace

MEASURES = ("one", "many", "rebuild", "holders", "drain", "backlog", "latency", "idle")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The sizes of one run.

    Attributes:
        only: the measures to take.
        rounds: how often a measure is repeated; the median counts.
        seconds: length of one loop that enqueues, or inserts, one row at a time.
        jobs: no-op jobs of one drain, and of one round of enqueue_many.
        holders, few_holders: children that hold jobs in the comparison of rebuilds.
        held: jobs that they hold, all together.
        rebuild: jobs of that comparison, the held ones included.
        backlog, small_backlog: waiting jobs in the comparison of backlogs.
        bursts: how often the head of each backlog is drained for that comparison.
        full: drain the whole large backlog as well.
        latency_jobs, latency_every: jobs sent to an idle worker, and the seconds between two of them.
        idle_settle, idle_seconds: seconds before and during the look at an idle worker.
    """

    only: tuple[str, ...] = MEASURES
    rounds: int = 3
    seconds: float = 1.5
    jobs: int = 60_000
    holders: int = 1_000
    few_holders: int = 4
    held: int = 3_000
    rebuild: int = 100_000
    backlog: int = 1_000_000
    small_backlog: int = 10_000
    bursts: int = 6
    full: bool = False
    latency_jobs: int = 500
    latency_every: float = 0.02
    idle_settle: float = 3.0
    idle_seconds: float = 20.0

    @property
    def burst(self) -> int:
        """Jobs of one burst: not the whole small backlog, as its end runs on an ever emptier queue."""
        return self.small_backlog * 8 // 10

    @property
    def window(self) -> int:
        """Jobs of one round at the large backlog; after all bursts and rounds most of it still waits."""
        return min(self.jobs, (self.backlog - self.bursts * self.burst) // (2 * self.rounds))


def quick(plan: Plan) -> Plan:
    """A plan of seconds instead of minutes: it shows that the bench works; its figures mean little."""
    return replace(
        plan,
        rounds=1,
        seconds=0.2,
        jobs=4_000,
        holders=50,
        held=150,
        rebuild=2_000,
        backlog=40_000,  # a fast machine ends thousands more before a pause takes hold
        small_backlog=2_000,
        bursts=2,
        latency_jobs=50,
        idle_settle=0.5,
        idle_seconds=2.0,
    )


def with_jobs(plan: Plan, jobs: int) -> Plan:
    """The plan with drains of `jobs`; the backlogs shrink along if they would not fit any more."""
    return replace(
        plan,
        jobs=jobs,
        small_backlog=min(plan.small_backlog, jobs),
        backlog=min(plan.backlog, 20 * jobs),
    )
