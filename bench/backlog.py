"""Whether a long queue is drained as fast as a short one, and what a waiting job costs Redis.

One worker does both, in the same way: again and again it is let at the head of the queue until the same number of
jobs is final. Only what waits behind them differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from bench import enqueue
from bench.plan import Plan
from bench.progress import Progress
from bench.stores import Stores
from bench.worker import Span, Worker, check_record, working


@dataclass(frozen=True, slots=True)
class Backlog:
    """Jobs a second, and all CPU (worker and stores) in µs a job.

    Attributes:
        per_s: while the large backlog waits, over `plan.window` jobs a round.
        small_burst_per_s, large_burst_per_s: bursts of `plan.burst` jobs out of either backlog.
        whole_per_s: the whole large backlog, None unless asked for.
        redis_bytes_per_job: growth of Redis's memory by the large backlog, for each job.
    """

    per_s: float
    small_burst_per_s: float
    large_burst_per_s: float
    small_us: float
    large_us: float
    whole_per_s: float | None
    redis_bytes_per_job: float


def backlog(stores: Stores, plan: Plan, progress: Progress) -> Backlog:
    """Drain the heads of a small and of a large backlog."""
    stores.reset()
    with working(stores) as worker:
        small = []
        for _ in progress.rounds(f"drain with {plan.small_backlog:,} waiting", plan.bursts):
            enqueue.load(plan.small_backlog)
            stores.analyze()
            small.append(worker.work(plan.burst))
            worker.work(worker.unfinished(), resume=False)
            worker.pause()
        finished = plan.bursts * plan.small_backlog
        progress.note(_line(f"bursts of {plan.burst:,} out of {plan.small_backlog:,}", small))

        memory = stores.used_memory()
        with progress.bar(f"enqueueing {plan.backlog:,}", plan.backlog) as tell:
            enqueue.load(plan.backlog, tell)
        memory = stores.used_memory() - memory
        stores.analyze()
        large = []
        for _ in progress.rounds(f"drain with {plan.backlog:,} waiting", plan.bursts):
            large.append(worker.work(plan.burst))
            worker.pause()
        progress.note(_line(f"bursts of {plan.burst:,} out of {plan.backlog:,}", large))
        windows = _windows(worker, plan, progress)
        progress.note(_line(f"rounds of {plan.window:,} out of {plan.backlog:,}", windows))

        whole = None
        if plan.full:
            whole = _whole(worker, plan, progress, windows)
            progress.note(f"all {plan.backlog:,}: {whole:,.0f}/s")
        worker.pause()
        finished += plan.backlog - worker.unfinished()
    check_record(finished)
    return Backlog(
        median(span.per_s for span in windows),
        median(span.per_s for span in small),
        median(span.per_s for span in large),
        median(_all_us(span) for span in small),
        median(_all_us(span) for span in large),
        whole,
        memory / plan.backlog,
    )


def _windows(worker: Worker, plan: Plan, progress: Progress) -> list[Span]:
    """Rounds without a pause between them."""
    spans = []
    with progress.bar("drain without a pause", plan.rounds * plan.window) as tell:
        for number in range(plan.rounds):
            spans.append(worker.work(plan.window, tell, resume=number == 0))
    return spans


def _whole(worker: Worker, plan: Plan, progress: Progress, windows: list[Span]) -> float:
    """The rate over all that was drained without a pause, down to the last job."""
    left = worker.unfinished()
    with progress.bar(f"drain of all {plan.backlog:,}", left) as tell:
        rest = worker.work(left, tell, resume=False)
    spans = [*windows, rest]
    return sum(span.jobs for span in spans) / sum(span.seconds for span in spans)


def _all_us(span: Span) -> float:
    return span.us(span.worker + span.postgresql + span.redis)


def _line(title: str, spans: list[Span]) -> str:
    rates = ", ".join(f"{span.per_s:,.0f}" for span in spans)
    return f"{title}: {rates} a second; CPU {median(map(_all_us, spans)):.1f} µs a job"
