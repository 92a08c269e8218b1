"""The workers and enqueuers of a run: each has a place, and who ends there is replaced, as a service manager does."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.chaos import clock
from bench.chaos.network import Network
from bench.runtime.processes import die_with_parent
from bench.runtime.workers import ROOT, WorkerProcess

QUEUES = ("default", "slow")
#: The workers: one each, with these options of `runworker`. The last is the one behind the cable.
SHAPES = (("2", "1"), ("1", "4"), ("2", "1"), ("1", "2"))
GRACE = 4.0
#: Deaths after which a job is quarantined.
POISON_AFTER = 5

_ID = re.compile(r" worker ([0-9a-f-]{36}) \(pid ")


class Place:
    """A place, and all processes that ever sat there.

    Args:
        start: starts the next one, given how many there were.
        patience: seconds, least and most, before a dead one is replaced.
    """

    def __init__(self, name: str, start: Callable[[int], Any], patience: tuple[float, float]) -> None:
        self.name = name
        self.lock = threading.Lock()  # held by the fault that has this place for its target
        self.all: list[Any] = []
        self.ended: list[tuple[Any, int]] = []
        self._start = start
        self._patience = patience
        self._again_at = 0.0

    @property
    def now(self) -> Any:
        """The process that sits here, or sat here last."""
        return self.all[-1]

    def look(self, dice: random.Random) -> None:
        """Replace the process if it has ended and it is time."""
        if self.all and self.now.poll() is None:
            return
        if self.all and len(self.ended) < len(self.all):
            self.ended.append((self.now, self.now.poll()))
            self._again_at = time.monotonic() + dice.uniform(*self._patience)
        if time.monotonic() >= self._again_at:
            self.all.append(self._start(len(self.all)))


class Worker(WorkerProcess):
    """A real worker.

    Attributes:
        place: its place's number.
    """

    def __init__(self, place: int, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.place = place
        self._id = ""

    def poll(self) -> int | None:
        """The exit code of the supervisor, None while it lives."""
        return self._process.poll()

    @property
    def id(self) -> str:
        """Its id, as it says when it starts; empty until then."""
        if not self._id:
            with open(self.log, errors="replace") as file:
                found = _ID.search(file.read(10_000))
            self._id = found[1] if found else ""
        return self._id

    @property
    def ready(self) -> bool:
        """Whether it lives, and all its children have been up."""
        return self.poll() is None and bool(self.id) and "\nready\n" in self.output()

    def signal_group(self, number: int) -> None:
        """Send a signal to all its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


class Crew:
    """All workers and enqueuers.

    Args:
        environment: of every process; workers behind the cable get `remote` laid over it.
    """

    def __init__(
        self,
        folder: Path,
        environment: dict[str, str],
        remote: dict[str, str],
        network: Network | None,
        *,
        lease: float,
        seed: int,
        rate: float,
        enqueuers: int,
    ) -> None:
        self._folder = folder
        self._environment = os.environ | environment
        self._environment["CHAOS_QUEUE_APP"] = json.dumps(
            {"LEASE": lease, "DUE_HORIZON": 20.0, "SWEEP_GRACE": 2.0, "POISON_AFTER": POISON_AFTER}
        )
        self._remote = remote
        self._network = network
        self._seed, self._rate, self._enqueuers = seed, rate, enqueuers
        self.workers = [
            Place(f"worker {n}", lambda serial, n=n: self._start_worker(n, serial), (0.1, 1.5))
            for n in range(len(SHAPES))
        ]
        self.enqueuers = [
            Place(f"enqueuer {n}", lambda serial, n=n: self._start_enqueuer(n, serial), (0.1, 0.5))
            for n in range(enqueuers)
        ]
        # It lives as long as the processes: the kernel ends them with the thread that started them.
        self._over = threading.Event()
        self._replacing = self._enqueueing = True
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def clock_of(self, place: int) -> Path:
        """The file that holds the offset of the clock of the workers at this place."""
        return self._folder / f"clock-{place}"

    @property
    def cabled(self) -> int | None:
        """The place behind the cable, if there is a cable."""
        return None if self._network is None else len(SHAPES) - 1

    @property
    def ledgers(self) -> list[Path]:
        return sorted(self._folder.glob("ledger-*"))

    def start(self) -> None:
        """Start everybody; from now on who ends is replaced."""
        for place in range(len(SHAPES)):
            clock.write(self.clock_of(place), 0.0)
        self._thread.start()

    def _watch(self) -> None:
        dice = random.Random(self._seed)
        while not self._over.wait(0.05):
            for place in self.workers if self._replacing else []:
                place.look(dice)
            for place in self.enqueuers if self._enqueueing else []:
                place.look(dice)

    def _start_worker(self, place: int, serial: int) -> Worker:
        processes, slots = SHAPES[place]
        behind = place == self.cabled
        arguments = ["--processes", processes, "--slots", slots, "--grace", f"{GRACE:g}"]
        arguments += ["--queues", ",".join(f"{name}:{4 if name == 'default' else 1}" for name in QUEUES)]
        environment = self._environment | {
            "CHAOS_PLACE": str(place),
            clock.VARIABLE: str(self.clock_of(place)),
        }
        if behind:
            environment |= self._remote
        return Worker(
            place,
            arguments,
            environment,
            self._folder / f"worker-{place}-{serial}.log",
            prefix=self._network.prefix if behind and self._network else [],
        )

    def _start_enqueuer(self, number: int, serial: int) -> subprocess.Popen[bytes]:
        name = f"e{number}.{serial}"
        arguments = (name, self._seed, self._rate / self._enqueuers, self._folder / f"ledger-{name}")
        with open(self._folder / f"enqueuer-{number}-{serial}.log", "wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "bench.chaos.enqueuer", *map(str, arguments)],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGKILL),
            )

    def stop_enqueueing(self, seconds: float) -> None:
        """Let the enqueuers end their transactions; who does not in time is killed, and its transaction unknown."""
        self._enqueueing = False
        time.sleep(0.2)  # the watch may be about to start one
        for place in self.enqueuers:
            place.now.terminate()
        deadline = time.monotonic() + seconds
        for place in self.enqueuers:
            try:
                place.now.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                place.now.kill()
                place.now.wait()

    def stop_workers(self, seconds: float) -> list[str]:
        """Drain the workers that sit now. Returns what was wrong with how they ended."""
        self._replacing = False
        time.sleep(0.2)  # the watch may be about to start one
        for place in self.workers:
            place.now.signal(signal.SIGTERM)
        wrong = []
        deadline = time.monotonic() + seconds
        for place in self.workers:
            while place.now.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
            code = place.now.poll()
            if code != 0:
                wrong.append(
                    f"{place.name}: {'still runs' if code is None else f'exit code {code}'} after TERM"
                )
        return wrong

    def clean_up(self) -> None:
        """End every process that was ever started here."""
        self._replacing = self._enqueueing = False
        time.sleep(0.2)
        for place in self.workers:
            for worker in place.all:
                worker.kill()
        for place in self.enqueuers:
            for process in place.all:
                process.kill()
                process.wait()
        self._over.set()

    def logs(self) -> list[Path]:
        return sorted(self._folder.glob("*.log"))
