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
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from bench import stores as servers
from bench.plan import Plan
from bench.stores import Stores
from bench.usage import cpu_seconds
from bench.worker import ARGUMENTS, PROCESSES, STUCK, BenchError
from tests.support.processes import die_with_parent
from tests.support.waiting import wait_until

HARNESS = Path(__file__).resolve().parent / "harness"
#: Seconds between two looks at whether all jobs have ended. The figures do not depend on it: the record says when.
LOOK = 0.1
#: Seconds until a worker's first start on empty stores has come to rest.
FIRST_START = 5.0


@dataclass(frozen=True, slots=True)
class Side:
    """A version that can be measured.

    Args:
        name: for people.
        path: its checkout.
        log: where its processes write.
    """

    name: str
    path: Path
    log: Path
    stores: Stores
    agent: subprocess.Popen[str]

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

    def warm_up(self) -> None:
        """Make the tables, and let a worker run for the first time; nothing of this is measured."""
        self.ask("prepare")
        with self._worker():
            self.ask("load", jobs=1_000)
            self._wait_for_end(1_000)
            time.sleep(FIRST_START)
        self.ask("empty")

    def measure(self, plan: Plan) -> dict[str, float]:
        """One round: the figures by name."""
        self.ask("pause")
        figures, stores = {}, sum(self.stores.cpu())
        loaded = self.ask("load", jobs=plan.jobs)
        figures["many_per_s"] = plan.jobs / loaded["seconds"]
        used = loaded["cpu"] + sum(self.stores.cpu()) - stores
        figures["many_us"] = used / plan.jobs * 1e6
        self.ask("analyze")
        with self._worker() as pid:
            figures |= self._drain(pid, plan.jobs)
            if "latency" in plan.only:
                starts = self.ask("latency", jobs=plan.latency_jobs, every=plan.latency_every)
                figures["latency_p50"] = median(starts)
                figures["latency_p99"] = quantiles(starts, n=100, method="inclusive")[98]
            if "idle" in plan.only:
                time.sleep(plan.idle_settle)
                before, began = cpu_seconds(pid), time.perf_counter()
                time.sleep(plan.idle_seconds)
                figures["idle_percent"] = (cpu_seconds(pid) - before) / (time.perf_counter() - began) * 100
        self.ask("empty")
        return figures

    def _drain(self, pid: int, jobs: int) -> dict[str, float]:
        worker, stores = cpu_seconds(pid), sum(self.stores.cpu())
        began = self.ask("resume")
        self._wait_for_end(jobs)
        worker, stores = cpu_seconds(pid) - worker, sum(self.stores.cpu()) - stores
        ended = self.ask("ended")
        if not ended["succeeded"] == ended["attempts"] == jobs:
            raise BenchError(f"{self.name}: {jobs:,} jobs should be recorded once, not so: {ended}")
        return {
            "drain_per_s": jobs / (ended["last"] - began),
            "drain_worker_us": worker / jobs * 1e6,
            "drain_stores_us": stores / jobs * 1e6,
            "drain_us": (worker + stores) / jobs * 1e6,
        }

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
    def _worker(self) -> Iterator[int]:
        """Run a worker, idle at first; gives the pid of its supervisor."""
        start = self.log.stat().st_size
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
            return b"\nready" in self.log.read_bytes()[start:]

        try:
            wait_until(ready, STUCK, lambda: f"{self.name}: a worker that is ready:\n{self.tail()}")
            with self.stores.client() as client:
                wait_until(
                    lambda: client.info("clients")["blocked_clients"] >= PROCESSES, STUCK, "an idle worker"
                )
            yield process.pid
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
