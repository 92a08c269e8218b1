"""The rebuild: Redis has lost its data, and what waits is put back from the record."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

from bench import enqueue, floor
from bench.plan import Plan
from bench.progress import Progress
from bench.stores import Stores
from bench.worker import BenchError


@dataclass(frozen=True, slots=True)
class Rebuild:
    """Rates a second; CPU in µs a job."""

    per_s: float
    read_and_push_per_s: float
    leader_us: float
    stores_us: float


def rebuild(stores: Stores, plan: Plan, progress: Progress) -> Rebuild:
    """Put back all jobs that wait, in turn with a bare client that reads the same rows and writes as much to Redis."""
    from queue_app.dispatch import connection
    from queue_app.lifecycle.rebuild import at_once

    stores.reset()
    enqueue.load(plan.jobs)
    stores.analyze()
    rates, bare, used = [], [], enqueue.Used(stores)
    for number in progress.rounds("rebuild", plan.rounds):
        with stores.client() as client:
            client.flushall()
        bare.append(floor.read_and_push(stores))
        with stores.client() as client:
            client.flushall()
        with used:
            began = time.perf_counter()
            count = at_once(connection.client())
            rates.append(count / (time.perf_counter() - began))
        used.by(plan.jobs)
        if count != plan.jobs:
            raise BenchError(f"{count:,} of {plan.jobs:,} jobs were put back.")
        progress.note(f"rebuild, round {number}: {rates[-1]:,.0f}/s; bare {bare[-1]:,.0f}/s")
    return Rebuild(median(rates), median(bare), median(used.producer_us), median(used.stores_us))
