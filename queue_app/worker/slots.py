"""Where a child's jobs run: in the main thread, or in as many threads as it has slots."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from queue_app.dispatch.body import Delivery
from queue_app.worker import connections
from queue_app.worker.runner import Runner

#: Seconds between two looks at whether the child was told to stop, while all slots are busy.
LOOK = 0.25


class MainThread:
    """One slot: no thread, no lock, no hand-over."""

    def __init__(self, runner: Runner, stopping: Callable[[], bool]) -> None:
        self._runner = runner
        self._stopping = stopping

    def want(self) -> int:
        """How many jobs to claim now."""
        return self._runner.backlog.size

    def run(self, deliveries: list[Delivery]) -> None:
        """Run these; what is left when told to stop stays in the backlog."""
        runner, stopping = self._runner, self._stopping
        runner.backlog.extend(deliveries)
        runner.recorder.watch()
        started, count = time.monotonic(), 0
        while not stopping():
            delivery = runner.backlog.take()
            if delivery is None:
                break
            runner.run_one(0, delivery)
            count += 1
        runner.backlog.ran(count, time.monotonic() - started)

    def idle(self) -> bool:
        """Whether nothing runs."""
        return True

    def stop(self) -> None:
        """Nothing runs any more."""


class Threads:
    """Several slots, each a thread with database connections of its own."""

    def __init__(self, runner: Runner, stopping: Callable[[], bool], count: int) -> None:
        self._runner = runner
        self._stopping = stopping
        self._condition = threading.Condition()
        self._idle = 0
        self._closing = False
        self._threads = [
            threading.Thread(target=self._work, args=(n,), name=f"slot-{n}", daemon=True)
            for n in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def want(self) -> int:
        """How many jobs to claim now: at least one for each idle slot. Waits until there is one."""
        with self._condition:
            while not self._stopping() and (self._idle == 0 or self._runner.backlog):
                self._condition.wait(LOOK)
            return max(self._idle, self._runner.backlog.size)

    def run(self, deliveries: list[Delivery]) -> None:
        """Hand these to the slots, and come back when all have been started."""
        runner = self._runner
        started = time.monotonic()
        runner.recorder.watch()
        with self._condition:
            runner.backlog.extend(deliveries)
            self._condition.notify_all()
            while runner.backlog and not self._stopping():
                self._condition.wait(LOOK)
        runner.backlog.ran(len(deliveries), time.monotonic() - started)

    def idle(self) -> bool:
        """Whether nothing runs."""
        with self._condition:
            return self._idle == len(self._threads)

    def stop(self) -> None:
        """Wait for what runs; nothing new is started."""
        with self._condition:
            self._closing = True
            self._condition.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self, number: int) -> None:
        while True:
            with self._condition:
                self._idle += 1
                self._condition.notify_all()
                while not self._closing and not (self._runner.backlog and not self._stopping()):
                    self._condition.wait()
                self._idle -= 1
                if self._closing:
                    break
                delivery = self._runner.backlog.take()
            if delivery is not None:
                self._runner.run_one(number, delivery)
        connections.refresh(close=True)
