"""From `enqueue()` to the first line of the task, with a worker that has nothing else to do."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

from bench import floor
from bench.plan import Plan
from bench.progress import Progress
from bench.runtime.waiting import wait_until
from bench.stores import Stores
from bench.worker import STUCK, BenchError, Worker

#: Jobs sent before those that count: the first ones open connections.
WARM_UP = 10


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from just before `enqueue()` to the start of the task. Medians beside it: `enqueue_ms` is the call
    itself, `insert_ms` a bare INSERT and commit after such a pause, `redis_ms` a command of Redis after one."""

    p50: float
    p95: float
    p99: float
    enqueue_ms: float
    insert_ms: float
    redis_ms: float


def latency(stores: Stores, worker: Worker, plan: Plan, progress: Progress) -> Latency:
    """Send one job after the other, far enough apart for the worker to be idle each time."""
    with tempfile.TemporaryDirectory(prefix="jq-bench-") as folder:
        for _ in progress.rounds("latency", 1):
            _send(WARM_UP, plan.latency_every, Path(folder) / "warm-up")
            calls, starts = _send(plan.latency_jobs, plan.latency_every, Path(folder) / "arrivals")
    bare = floor.paced(stores, plan.latency_jobs // 2, plan.latency_every)
    cuts = quantiles(starts, n=100, method="inclusive")
    result = Latency(median(starts), cuts[94], cuts[98], median(calls), *bare)
    progress.note(f"latency: p50 {result.p50:.2f} ms, p95 {result.p95:.2f} ms, p99 {result.p99:.2f} ms")
    return result


def _send(jobs: int, every: float, path: Path) -> tuple[list[float], list[float]]:
    """Milliseconds of each call of `enqueue()`, and of each job until its start."""
    from bench.tasks import arrive

    calls, next_at = [], time.perf_counter()
    for _ in range(jobs):
        time.sleep(max(0.0, next_at - time.perf_counter()))
        next_at += every
        began = time.perf_counter()
        arrive.enqueue(time.time(), str(path))
        calls.append((time.perf_counter() - began) * 1000)

    def starts() -> list[float]:
        lines = path.read_text().splitlines() if path.exists() else []
        return [float(line) for line in lines] if len(lines) >= jobs else []

    found = wait_until(starts, STUCK, "the start of every job")
    if len(found) != jobs:
        raise BenchError(f"{jobs} jobs were sent, and {len(found)} were started")
    return calls, found
