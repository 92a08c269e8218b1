"""One version in a comparison: stores of its own, the process that uses it, and its worker."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from bench import stores as servers
from bench.plan import Plan
from bench.runtime.processes import die_with_parent
from bench.runtime.waiting import wait_until
from bench.stores import Stores
from bench.usage import cpu_seconds
from bench.worker import ARGUMENTS, PROCESSES, STUCK, BenchError

HARNESS = Path(__file__).resolve().parent / "harness"
#: Seconds between two looks at whether all jobs have ended. The figures do not depend on it: the record says when.
LOOK = 0.1
#: Seconds until a worker on empty stores has come to rest; and jobs that it drains before anything is measured.
FIRST_START, WARM_UP = 5.0, 5_000


@dataclass(slots=True)
class Used:
    """What jobs took: how many, wall seconds and CPU seconds of enqueueing (with the stores), and of draining."""

    jobs: int = 0
    load_seconds: float = 0.0
    load_cpu: float = 0.0
    drain_seconds: float = 0.0
    worker_cpu: float = 0.0
    stores_cpu: float = 0.0

    def add(self, other: Used) -> None:
        """Count another part in."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    def figures(self) -> dict[str, float]:
        """Rates a second, and CPU in µs a job, by name."""
        us = 1e6 / self.jobs
        return {
            "many_per_s": self.jobs / self.load_seconds,
            "many_us": self.load_cpu * us,
            "drain_per_s": self.jobs / self.drain_seconds,
            "drain_worker_us": self.worker_cpu * us,
            "drain_stores_us": self.stores_cpu * us,
            "drain_us": (self.worker_cpu + self.stores_cpu) * us,
        }


@dataclass(slots=True)
class Side:
    """A version that can be measured.

    Args:
        name: for people.
        path: its checkout.
        log: where its processes write.

    Attributes:
        pid: of its worker's supervisor, while it runs.
    """

    name: str
    path: Path
    log: Path
    stores: Stores
    agent: subprocess.Popen[str]
    pid: int = 0

    def ask(self, verb: str, **arguments: Any) -> Any:
        """Have the agent do something.

        Raises:
            BenchError: it could not, or it has ended.
        """
        assert self.agent.stdin is not None and self.agent.stdout is not None
        try:
            self.agent.stdin.write(json.dumps([verb, arguments]) + "\n")
            self.agent.stdin.flush()
            line = self.agent.stdout.readline()
        except OSError:
            line = ""
        answer = json.loads(line) if line else {"error": f"its process has ended:\n{self.tail()}"}
        if "error" in answer:
            raise BenchError(f"{self.name}: {answer['error']}")
        return answer["answer"]

    def tail(self) -> str:
        """The end of what its processes have written."""
        return self.log.read_text(errors="replace")[-2_000:]

    def part(self, jobs: int) -> Used:
        """Enqueue no-op jobs into the paused queue, and drain them. The worker runs, and is idle before and after."""
        used, before = Used(jobs), sum(self.stores.cpu())
        loaded = self.ask("load", jobs=jobs)
        used.load_seconds = loaded["seconds"]
        used.load_cpu = loaded["cpu"] + sum(self.stores.cpu()) - before
        self.ask("analyze")
        worker, stores = cpu_seconds(self.pid), sum(self.stores.cpu())
        began = self.ask("resume")
        self._wait_for_end(jobs)
        used.worker_cpu, used.stores_cpu = cpu_seconds(self.pid) - worker, sum(self.stores.cpu()) - stores
        ended = self.ask("ended")
        if not ended["succeeded"] == ended["attempts"] == jobs:
            raise BenchError(f"{self.name}: {jobs:,} jobs should be recorded once, not so: {ended}")
        used.drain_seconds = ended["last"] - began
        self.ask("pause")
        self.ask("empty")
        return used

    def at_rest(self, plan: Plan) -> dict[str, float]:
        """The figures of a worker that has nothing else to do, of those in `plan.only`, by name."""
        figures = {}
        if "latency" in plan.only:
            self.ask("resume")
            starts = self.ask("latency", jobs=plan.latency_jobs, every=plan.latency_every)
            figures["latency_p50"] = median(starts)
            figures["latency_p99"] = quantiles(starts, n=100, method="inclusive")[98]
            self._wait_for_end(plan.latency_jobs)
            self.ask("pause")
            self.ask("empty")
        if "idle" in plan.only:
            time.sleep(plan.idle_settle)
            before, began = cpu_seconds(self.pid), time.perf_counter()
            time.sleep(plan.idle_seconds)
            passed = time.perf_counter() - began
            figures["idle_percent"] = (cpu_seconds(self.pid) - before) / passed * 100
        return figures

    def _wait_for_end(self, jobs: int) -> None:
        """The database is asked only when the children wait for work: a question costs it more than a job does."""
        with self.stores.client() as client:
            deadline = time.monotonic() + STUCK + jobs / 500
            while True:
                time.sleep(LOOK)
                idle = client.info("clients")["blocked_clients"] >= PROCESSES
                if idle and not self.ask("unfinished"):
                    return
                if time.monotonic() > deadline:
                    raise BenchError(f"{self.name}: its worker does not get on:\n{self.tail()}")

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Make the tables and run the worker. It has drained some jobs and come to rest, and its queue is paused."""
        self.ask("prepare")
        with open(self.log, "ab") as log:
            process = subprocess.Popen(
                [sys.executable, str(self.path / "manage.py"), "runworker", *ARGUMENTS],
                env=_environment(self.path, self.stores),
                cwd=self.path,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGTERM),
            )

        def ready() -> bool:
            if process.poll() is not None:
                raise BenchError(f"{self.name}: its worker ended with {process.returncode}:\n{self.tail()}")
            return b"\nready" in self.log.read_bytes()

        try:
            wait_until(ready, STUCK, lambda: f"{self.name}: a worker that is ready:\n{self.tail()}")
            self.pid = process.pid
            time.sleep(FIRST_START)
            self.ask("pause")
            self.part(WARM_UP)
            yield
            process.terminate()
            if code := process.wait(STUCK):
                raise BenchError(f"{self.name}: its worker ended with {code}:\n{self.tail()}")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _environment(path: Path, stores: Stores) -> dict[str, str]:
    own = {"DJANGO_SETTINGS_MODULE": "jq_bench.settings", "PYTHONPATH": f"{path}{os.pathsep}{HARNESS}"}
    return os.environ | stores.environment() | own | {"PYTHONUNBUFFERED": "1"}


@contextlib.contextmanager
def side(name: str, path: Path, folder: Path) -> Iterator[Side]:
    """A version's stores and its agent; all of it ends with the block.

    Args:
        path: its checkout.
        folder: where its log goes.

    Raises:
        ServerUnavailable: PostgreSQL or Redis cannot be run here.
    """
    log = folder / f"{name}.log"
    log.touch()
    with servers.running() as stores, open(log, "ab") as output:
        agent = subprocess.Popen(
            [sys.executable, "-m", "jq_bench.agent"],
            env=_environment(path, stores),
            cwd=path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            preexec_fn=die_with_parent(signal.SIGKILL),
        )
        try:
            yield Side(name, path, log, stores, agent)
        finally:
            agent.kill()
            agent.communicate()
