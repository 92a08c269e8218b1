"""Where a child's jobs run: in the main thread, or in as many threads as it has slots."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from queue_app.domain.delivery import Delivery
from queue_app.lifecycle import database
from queue_app.worker.child.runner import Runner

#: Seconds between two looks at whether the child was told to stop, while all slots are busy.
STOP_CHECK_SECONDS = 0.25
#: Seconds that a suspect is waited for at first, until all slots are free; and most for which it is put off after that.
SUSPECT_WAIT_SECONDS, MAX_POSTPONE_SECONDS = 1.0, 60.0


class SuspectWait:
    """How long a child with several slots waits until it is empty for a suspect: a second at first, then for as long as
    this has taken already. So another child with room soon gets it. A child whose long jobs overlap is empty for it at
    last, and works half of the time until then."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def of(self, job_id: str, now: float) -> float:
        """Seconds to wait from `now` on, on the monotonic clock."""
        if len(self._since) > 1_000:  # others have run them
            self._since.clear()
        return max(SUSPECT_WAIT_SECONDS, now - self._since.setdefault(job_id, now))

    def over(self, job_id: str) -> None:
        """It was run here."""
        self._since.pop(job_id, None)


class MainThread:
    """One slot: no thread, no lock, no hand-over."""

    def __init__(self, runner: Runner, stopping: Callable[[], bool]) -> None:
        self._runner = runner
        self._stopping = stopping

    def capacity(self) -> int:
        """How many jobs to claim now."""
        return self._runner.prefetch.batch_size

    def run(self, deliveries: list[Delivery]) -> None:
        """Run these; what is left when told to stop stays prefetched."""
        runner, stopping = self._runner, self._stopping
        runner.prefetch.extend(deliveries)
        runner.recorder.watch()
        started, count = time.monotonic(), 0
        while not stopping():
            delivery = runner.prefetch.take()
            if delivery is None:
                break
            runner.run_one(0, delivery)
            count += 1
        runner.prefetch.observe(count, time.monotonic() - started)

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
        self._suspect_wait = SuspectWait()
        self._threads = [
            threading.Thread(target=self._work, args=(n,), name=f"slot-{n}", daemon=True)
            for n in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def capacity(self) -> int:
        """How many jobs to claim now: at least one for each idle slot. Waits until there is one."""
        with self._condition:
            while not self._stopping() and (self._idle == 0 or self._runner.prefetch):
                self._condition.wait(STOP_CHECK_SECONDS)
            return max(self._idle, self._runner.prefetch.batch_size)

    def run(self, deliveries: list[Delivery]) -> None:
        """Hand these to the slots, and come back when all have been started. A suspect comes after them, alone."""
        suspects = [d for d in deliveries if d.suspect]
        if suspects:
            deliveries = [d for d in deliveries if not d.suspect]
            self._runner.claims.give_back(suspects[1:])  # other children may have room for them
        runner = self._runner
        started = time.monotonic()
        runner.recorder.watch()
        with self._condition:
            runner.prefetch.extend(deliveries)
            self._condition.notify_all()
            while runner.prefetch and not self._stopping():
                self._condition.wait(STOP_CHECK_SECONDS)
        if deliveries:
            runner.prefetch.observe(len(deliveries), time.monotonic() - started)
        if suspects:
            self._run_alone(suspects[0])

    def _run_alone(self, delivery: Delivery) -> None:
        """Run a suspect when nothing else runs here. Only this thread hands out jobs, so nothing starts beside it.

        If the other jobs take too long, the suspect is postponed. Then another child runs it, or this one later.
        """
        runner = self._runner
        began = time.monotonic()
        patience = self._suspect_wait.of(delivery.id, began)
        runner.running.set_exclusive(True)
        try:
            with self._condition:
                while not self._stopping() and not self._is_idle():
                    left = began + patience - time.monotonic()
                    if left <= 0:
                        break
                    self._condition.wait(min(left, STOP_CHECK_SECONDS))
                free = self._is_idle()
                if free or self._stopping():  # told to stop, no slot takes it: it is given back
                    runner.prefetch.extend([delivery])
                    self._condition.notify_all()
                while free and not self._stopping() and (runner.prefetch or not self._is_idle()):
                    self._condition.wait(STOP_CHECK_SECONDS)
            if not free and not self._stopping():
                runner.claims.postpone(delivery, min(patience, MAX_POSTPONE_SECONDS))
            elif free:
                self._suspect_wait.over(delivery.id)
        finally:
            runner.running.set_exclusive(False)

    def _is_idle(self) -> bool:
        return self._idle == len(self._threads)

    def idle(self) -> bool:
        """Whether nothing runs."""
        with self._condition:
            return self._is_idle()

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
                while not self._closing and not (self._runner.prefetch and not self._stopping()):
                    self._condition.wait()
                self._idle -= 1
                if self._closing:
                    break
                delivery = self._runner.prefetch.take()
            if delivery is not None:
                self._runner.run_one(number, delivery)
        database.refresh(close=True)
