"""What a worker costs that has nothing to do."""

from __future__ import annotations

import time
from dataclasses import dataclass

from bench.plan import Plan
from bench.progress import Progress
from bench.usage import cpu_seconds
from bench.worker import Worker


@dataclass(frozen=True, slots=True)
class Idle:
    """CPU of the whole worker, all its processes, in percent of one core; memory of a child in MB."""

    cpu_percent: float
    child_pss_mb: float | None


def idle(worker: Worker, plan: Plan, progress: Progress) -> Idle:
    """Leave the worker alone for a while and see what it used."""
    for _ in progress.rounds(f"idle for {plan.idle_seconds:g} s", 1):
        time.sleep(plan.idle_settle)
        before, began = cpu_seconds(worker.process.pid), time.perf_counter()
        time.sleep(plan.idle_seconds)
        used, passed = cpu_seconds(worker.process.pid) - before, time.perf_counter() - began
    result = Idle(used / passed * 100, worker.child_pss_mb())
    size = "" if result.child_pss_mb is None else f"; a child {result.child_pss_mb:.1f} MB"
    progress.note(f"idle worker: {result.cpu_percent:.2f} % CPU{size}")
    return result
