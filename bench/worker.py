"""A real worker, as users run it, and what it does between two moments."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from redis import Redis

from bench.runtime.waiting import wait_until
from bench.runtime.workers import WorkerProcess
from bench.stores import Stores
from bench.usage import children_titled, cpu_seconds, pss_mb
from queue_app.dispatch import keys, queues

QUEUE = "default"
PROCESSES = 2
ARGUMENTS = ["--processes", str(PROCESSES), "--slots", "1"]
#: Seconds between two looks at how far the worker is; and without progress until it counts as stuck.
LOOK, STUCK = 0.01, 30.0
#: Jobs that wait and jobs that any child holds, both at the same moment. KEYS 1 body, which has both; ARGV 1 pattern
#: of what is held.
COUNT = """
local held = 0
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do held = held + redis.call('HLEN', key) end
return {redis.call('HLEN', KEYS[1]) - held, held}
"""


class BenchError(Exception):
    """A measure cannot be trusted; the message says why."""


@dataclass(frozen=True, slots=True)
class Span:
    """What happened between two moments: finished jobs, wall seconds, CPU seconds."""

    jobs: int
    seconds: float
    worker: float
    postgresql: float
    redis: float

    @property
    def per_s(self) -> float:
        return self.jobs / self.seconds

    def us(self, seconds: float) -> float:
        """CPU seconds of this span as µs a job."""
        return seconds / self.jobs * 1e6


class Worker:
    """A running worker of two processes with one slot each. Its queue is paused until the measurement starts.

    Args:
        process: the started worker.
    """

    def __init__(self, stores: Stores, process: WorkerProcess) -> None:
        self.process = process
        self._stores = stores
        self._client = stores.client()
        self._count = self._client.register_script(COUNT)

    def wait_idle(self) -> None:
        """Wait until every child blocks on the bell."""
        wait_until(
            lambda: self._client.info("clients")["blocked_clients"] >= PROCESSES,
            STUCK,
            lambda: f"an idle worker:\n{self.process.output()[-2000:]}",
        )

    def unfinished(self) -> int:
        """Jobs that wait, or are held: a child lets go of a job once its outcome is committed."""
        return sum(self._counts())

    def resume(self) -> None:
        """Let the queue run."""
        set_paused(self._client, False)

    def pause(self) -> None:
        """Stop the claims, and wait until what was claimed is recorded."""
        set_paused(self._client, True)
        self.wait_idle()
        wait_until(lambda: self._counts()[1] == 0, STUCK, "the children let go of all jobs")

    def _counts(self) -> tuple[int, int]:
        waiting, held = self._count(keys=[keys.body(QUEUE)], args=[keys.held(QUEUE, "*")])
        return waiting, held

    def work(self, jobs: int, tell: Callable[[int], None] | None = None, *, resume: bool = True) -> Span:
        """Wait until that many more jobs are final in the record, and say what it took.

        Args:
            tell: told now and then how many became final since it was last told.
            resume: let the paused queue run at the first moment; else it runs already.

        Raises:
            BenchError: the worker does not get on.
        """
        before = left = self.unfinished()
        worker, (postgresql, redis) = cpu_seconds(self.process.pid), self._stores.cpu()
        began = moved = told_at = time.perf_counter()
        told = left
        if resume:
            self.resume()
        while True:
            now_left, now = self.unfinished(), time.perf_counter()
            if now_left < left:
                left, moved = now_left, now
            if before - left >= jobs or (
                not resume and left == 0
            ):  # the last may have ended before the first look
                break
            if now - moved > STUCK:
                raise BenchError(
                    f"{before - left:,} of {jobs:,} jobs are final and no more in {STUCK:g} s. The worker's output:\n"
                    f"{self.process.output()[-2000:]}"
                )
            if tell is not None and now - told_at > 0.5:
                tell(told - left)
                told, told_at = left, now
            time.sleep(LOOK)
        if tell is not None:
            tell(told - left)
        after = self._stores.cpu()
        return Span(
            before - left,
            now - began,
            cpu_seconds(self.process.pid) - worker,
            after[0] - postgresql,
            after[1] - redis,
        )

    def child_pss_mb(self) -> float | None:
        """Memory of its largest child (proportional set size) in MB, None where the system does not tell."""
        children = children_titled(self.process.pid, "queue_app child")
        if len(children) != PROCESSES:
            raise BenchError(
                f"the worker shows {len(children)} children in its process titles, not {PROCESSES}"
            )
        return pss_mb(children)


def set_paused(client: Redis, paused: bool) -> None:
    """Pause or resume the queue, in its row too: the worker's duties let Redis do what the rows say."""
    from queue_app.models import Queue

    if paused:
        queues.pause(client, QUEUE, True)  # at once: jobs go on meanwhile
    Queue.objects.update_or_create(name=QUEUE, defaults={"paused": paused})
    if not paused:
        queues.pause(client, QUEUE, False)


@contextlib.contextmanager
def working(stores: Stores, *, paused: bool = True) -> Iterator[Worker]:
    """Start a worker; it is idle, and with `paused` it does not claim before `resume`."""
    with tempfile.TemporaryDirectory(prefix="jq-bench-") as folder, stores.client() as client:
        set_paused(client, paused)
        process = WorkerProcess(ARGUMENTS, dict(os.environ), Path(folder) / "worker.log")
        try:
            process.wait_for("ready")
            worker = Worker(stores, process)
            worker.wait_idle()
            yield worker
            if code := process.stop():
                raise BenchError(f"the worker ended with exit code {code}:\n{process.output()[-2000:]}")
        finally:
            process.clean_up()


def check_record(finished: int) -> None:
    """The record must hold exactly that many succeeded jobs, each with its attempt.

    Raises:
        BenchError: it does not.
    """
    from queue_app.models import Attempt, Job

    jobs, attempts = Job.objects.filter(state="succeeded").count(), Attempt.objects.count()
    if not jobs == attempts == finished:
        raise BenchError(
            f"{finished:,} jobs should be recorded; {jobs:,} succeeded, with {attempts:,} attempts"
        )
