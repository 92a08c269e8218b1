"""Enqueueing, one by one and many at once, each beside what the bare stores do in the same minute."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from bench import floor
from bench.plan import Plan
from bench.progress import Progress
from bench.stores import Stores

#: Jobs of one enqueue_many.
CHUNK = 5_000


@dataclass(frozen=True, slots=True)
class One:
    """`task.enqueue()` outside a transaction. Rates a second; CPU in µs a job."""

    per_s: float
    insert_commit_per_s: float
    redis_script_per_s: float
    producer_us: float
    stores_us: float


@dataclass(frozen=True, slots=True)
class Many:
    """`task.enqueue_many()`. Rates a second; CPU in µs a job."""

    per_s: float
    copy_per_s: float
    producer_us: float
    stores_us: float


def one(stores: Stores, plan: Plan, progress: Progress) -> One:
    """Enqueue one job at a time, in turn with the bare INSERT, so that both meet the same disk."""
    from bench.tasks import noop

    inserts, rates, used = [], [], Used(stores)
    for number in progress.rounds("enqueue one", plan.rounds):
        stores.reset()
        inserts.append(floor.insert_commit(stores, plan.seconds))
        noop.enqueue(-1)  # connects
        numbers = itertools.count()
        with used:
            rates.append(floor.rate(lambda n=numbers: noop.enqueue(next(n)), plan.seconds))  # type: ignore[misc]
        used.by(next(numbers))
        progress.note(
            f"enqueue one, round {number}: {rates[-1]:,.0f}/s; INSERT + commit {inserts[-1]:,.0f}/s"
        )
    stores.reset()
    script = floor.redis_script(stores, plan.seconds)
    return One(median(rates), median(inserts), script, median(used.producer_us), median(used.stores_us))


def many(stores: Stores, plan: Plan, progress: Progress) -> Many:
    """Enqueue many jobs in each call, in turn with the bare COPY."""
    copies, rates, used = [], [], Used(stores)
    for number in progress.rounds("enqueue many", plan.rounds):
        stores.reset()
        copies.append(floor.copy(stores, plan.jobs))
        stores.reset()
        with used:
            rates.append(plan.jobs / load(plan.jobs))
        used.by(plan.jobs)
        progress.note(f"enqueue many, round {number}: {rates[-1]:,.0f}/s; COPY {copies[-1]:,.0f}/s")
    return Many(median(rates), median(copies), median(used.producer_us), median(used.stores_us))


def load(jobs: int, tell: Callable[[int], None] | None = None) -> float:
    """Enqueue that many no-op jobs; returns the seconds it took. `tell` is told after each call how many."""
    from bench.tasks import noop

    began = time.perf_counter()
    for start in range(0, jobs, CHUNK):
        count = min(CHUNK, jobs - start)
        noop.enqueue_many([((number,), {}) for number in range(start, start + count)])
        if tell is not None:
            tell(count)
    return time.perf_counter() - began


class Used:
    """The CPU that this process and both stores use within each `with`, in µs a job once `by` told how many."""

    def __init__(self, stores: Stores) -> None:
        self.producer_us: list[float] = []
        self.stores_us: list[float] = []
        self._stores = stores
        self._own = self._theirs = 0.0

    def __enter__(self) -> None:
        self._theirs, self._own = sum(self._stores.cpu()), time.process_time()

    def __exit__(self, *_: object) -> None:
        self._own = time.process_time() - self._own
        self._theirs = sum(self._stores.cpu()) - self._theirs

    def by(self, jobs: int) -> None:
        """Note the last block's figures: it enqueued that many jobs."""
        self.producer_us.append(self._own / jobs * 1e6)
        self.stores_us.append(self._theirs / jobs * 1e6)
