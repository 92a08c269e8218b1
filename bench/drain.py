"""Draining: a queue of no-op jobs, from the first claim until the last row is final."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from bench import enqueue, floor
from bench.plan import Plan
from bench.progress import Progress
from bench.stores import Stores
from bench.worker import check_record, working


@dataclass(frozen=True, slots=True)
class Drain:
    """Jobs a second; CPU in µs a job; memory of a child after the work in MB."""

    per_s: float
    rounds: list[float]
    settle_per_s: float
    worker_us: float
    postgresql_us: float
    redis_us: float
    child_pss_mb: float | None

    @property
    def stores_us(self) -> float:
        return self.postgresql_us + self.redis_us


def drain(stores: Stores, plan: Plan, progress: Progress) -> Drain:
    """Drain `plan.jobs` jobs in each round, beside settling in the bare database."""
    spans, floors, sizes = [], [], []
    for number in progress.rounds("drain", plan.rounds):
        stores.reset()
        floors.append(floor.settle(stores, min(plan.jobs, 20_000)))
        stores.reset()
        enqueue.load(plan.jobs)
        stores.analyze()
        with working(stores) as worker:
            span = worker.work(plan.jobs)
            sizes.append(worker.child_pss_mb())
        check_record(plan.jobs)
        spans.append(span)
        progress.note(
            f"drain, round {number}: {span.per_s:,.0f}/s; CPU µs a job: worker {span.us(span.worker):.1f}, "
            f"PostgreSQL {span.us(span.postgresql):.1f}, Redis {span.us(span.redis):.1f}; "
            f"bare settling {floors[-1]:,.0f}/s"
        )
    known = [size for size in sizes if size is not None]
    return Drain(
        median(span.per_s for span in spans),
        [span.per_s for span in spans],
        median(floors),
        median(span.us(span.worker) for span in spans),
        median(span.us(span.postgresql) for span in spans),
        median(span.us(span.redis) for span in spans),
        max(known) if known else None,
    )
