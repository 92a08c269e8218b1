"""The rebuild: Redis has lost its data, and what waits is put back from the record."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

from bench import enqueue, floor
from bench.plan import Plan
from bench.progress import Progress
from bench.stores import Stores
from bench.worker import QUEUE, BenchError

#: Seconds that one script may take before a comparison of rebuilds is given up.
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Rebuild:
    """Rates a second; CPU in µs a job."""

    per_s: float
    read_and_push_per_s: float
    leader_us: float
    stores_us: float


@dataclass(frozen=True, slots=True)
class Holders:
    """Rates a second of a rebuild while few children hold jobs, and while many do."""

    few_per_s: float
    many_per_s: float


def rebuild(stores: Stores, plan: Plan, progress: Progress) -> Rebuild:
    """Put back all jobs that wait, in turn with a bare client that reads the same rows and writes as much to Redis."""
    from queue_app.dispatch import connection
    from queue_app.lifecycle.recovery.rebuild import at_once

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


def holders(stores: Stores, plan: Plan, progress: Progress) -> Holders:
    """Put back all jobs that wait, in turn while few and while many children hold the same number of jobs."""
    stores.reset()
    enqueue.load(plan.rebuild)
    stores.analyze()
    found: dict[int, list[float]] = {plan.few_holders: [], plan.holders: []}
    for number in progress.rounds("rebuild with holders", plan.rounds):
        for count, rates in found.items():
            rates.append(_rebuild_with(stores, plan, count))
        few, many = found[plan.few_holders][-1], found[plan.holders][-1]
        progress.note(
            f"rebuild, round {number}: {few:,.0f}/s with {plan.few_holders} holders, {many:,.0f}/s with"
            f" {plan.holders:,}"
        )
    return Holders(median(found[plan.few_holders]), median(found[plan.holders]))


def _rebuild_with(stores: Stores, plan: Plan, count: int) -> float:
    from queue_app import clock
    from queue_app.dispatch import connection, epochs, keys, queues
    from queue_app.lifecycle.recovery import rebuild
    from queue_app.models import Job

    with stores.client() as client:
        client.flushall()
    client = connection.client(PATIENCE)
    rebuild.begin(client, keys.MAIN, epochs.life_of_server(client))
    held = [str(pk) for pk in Job.objects.order_by("id").values_list("pk", flat=True)[: plan.held]]
    for number in range(count):
        theirs = held[number::count]
        queues.hold(client, QUEUE, f"bench.{number}", clock.seconds(), dict.fromkeys(theirs, "{}"))
    began = time.perf_counter()
    back = rebuild.at_once(client)
    passed = time.perf_counter() - began
    if back != plan.rebuild - plan.held:
        raise BenchError(f"{back:,} jobs were put back while {plan.held:,} of {plan.rebuild:,} were held.")
    return plan.rebuild / passed
