"""Interrupting synchronous tasks: `SoftTimeout` when the time is up, `Cancelled` on request. Never anything else.

In the main thread signal handlers raise; in other threads the interpreter is asked to raise (CPython's
`PyThreadState_SetAsyncExc`). Neither can interrupt a call into C code that never returns: then the supervisor kills
the child. The block between `arm` and `disarm` is interrupted at most once. Code outside of it is never
interrupted, because it is the worker's own.
"""

from __future__ import annotations

import ctypes
import heapq
import itertools
import signal
import threading
import time
from collections.abc import Set
from typing import Any, Protocol

from queue_app.exceptions import Cancelled, SoftTimeout


class Interrupts(Protocol):
    """How to interrupt what runs in a child's slots.

    Attributes:
        interrupted: ids of jobs that were interrupted, also of those that succeeded all the same.
    """

    interrupted: set[str]

    def arm(self, job_id: str, seconds: float | None) -> None:
        """Begin the calling thread's block, which may be interrupted.

        Args:
            job_id: of the job that it runs.
            seconds: until SoftTimeout; None: no limit.

        Raises:
            Cancelled: the job was cancelled before.
        """

    def disarm(self, job_id: str) -> None:
        """End the block. Called in the `finally` of a `try` that follows `arm` directly."""

    def cancel(self, job_id: str) -> None:
        """Raise Cancelled in the block of this job, if it runs.

        The main thread's signal handler calls this, so that it must not wait for a lock.
        """

    def clear_interrupted(self, job_id: str) -> bool:
        """Forget whether this job was interrupted.

        Returns:
            Whether it was.
        """


class _Noted:
    """Keeps the ids of jobs that were interrupted."""

    def __init__(self) -> None:
        self.interrupted: set[str] = set()

    def clear_interrupted(self, job_id: str) -> bool:
        if job_id not in self.interrupted:
            return False
        self.interrupted.discard(job_id)
        return True


class InMainThread(_Noted):
    """One slot: signals interrupt the main thread.

    Args:
        cancelled: the ids of jobs of this child that were cancelled; looked at when one begins.
    """

    def __init__(self, cancelled: Set[str]) -> None:
        super().__init__()
        self._cancelled = cancelled
        self._running = (
            ""  # the job of the current block; cleared first, so that the block is interrupted only once
        )
        self._previous: Any = None
        self._timed = False

    def arm(self, job_id: str, seconds: float | None) -> None:
        self._running = job_id
        if self._timed:  # the last `disarm` was interrupted
            self._stop_timer()
        if seconds is not None:
            self._timed = True
            self._previous = signal.signal(signal.SIGALRM, self._time_is_up)
            signal.setitimer(signal.ITIMER_REAL, seconds)
        if self._cancelled and job_id in self._cancelled:
            self.cancel(job_id)

    def disarm(self, job_id: str) -> None:
        self._running = ""
        if self._timed:
            self._stop_timer()

    def cancel(self, job_id: str) -> None:
        if job_id == self._running:
            self._raise(Cancelled())

    def _time_is_up(self, signum: int, frame: Any) -> None:
        if self._running:
            self._raise(SoftTimeout("The attempt reached its time limit."))

    def _raise(self, error: BaseException) -> None:
        self.interrupted.add(self._running)
        self._running = ""
        raise error

    def _stop_timer(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._previous)
        self._timed = False


class InThreads(_Noted):
    """Several slots: other threads are interrupted; when their time is up, by a thread of its own that is started at
    the first limit.

    Args:
        cancelled: the ids of jobs of this child that were cancelled; looked at when one begins.
    """

    def __init__(self, cancelled: Set[str]) -> None:
        super().__init__()
        self._cancelled = cancelled
        self._condition = threading.Condition()
        self._heap: list[tuple[float, int]] = []
        self._armed: dict[int, int] = {}  # token → thread
        self._tokens: dict[str, int] = {}  # job → token
        self._fired: set[int] = set()
        self._count = itertools.count()
        self._thread: threading.Thread | None = None

    def arm(self, job_id: str, seconds: float | None) -> None:
        token = next(self._count)
        if seconds is None:
            self._armed[token] = threading.get_ident()
        else:
            with self._condition:
                self._armed[token] = threading.get_ident()
                self._watch_until(time.monotonic() + seconds, token)
        # Only after the lock was released: from here on `cancel` finds the block.
        self._tokens[job_id] = token
        if self._cancelled and job_id in self._cancelled and self._armed.pop(token, None) is not None:
            del self._tokens[job_id]
            raise Cancelled

    def disarm(self, job_id: str) -> None:
        token = self._tokens.pop(job_id)
        if self._armed.pop(token, None) is None:
            # Another thread took the token: its exception was raised, or will be. Catch it here, not elsewhere.
            self.interrupted.add(job_id)
            try:
                while token not in self._fired:
                    time.sleep(0.0005)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(threading.get_ident()), None)
            except (SoftTimeout, Cancelled):
                pass  # the block had ended in time
            self._fired.discard(token)

    def cancel(self, job_id: str) -> None:
        token = self._tokens.get(job_id)
        if token is not None:
            self._fire(token, Cancelled)

    def _fire(self, token: int, error: type[BaseException]) -> None:
        # Only the thread that removes the token may raise. A dict's `pop` is one step.
        thread = self._armed.pop(token, None)
        if thread is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))
            self._fired.add(token)

    def _watch_until(self, at: float, token: int) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="timeouts", daemon=True)
            self._thread.start()
        heapq.heappush(self._heap, (at, token))
        if len(self._heap) > 2 * len(self._armed) + 64:  # most belong to blocks that have ended long before
            self._heap = [entry for entry in self._heap if entry[1] in self._armed]
            heapq.heapify(self._heap)
        self._condition.notify()

    def _watch(self) -> None:
        while True:
            with self._condition:
                while not self._heap:
                    self._condition.wait()
                at, token = self._heap[0]
                delay = at - time.monotonic()
                if delay > 0:
                    self._condition.wait(delay)
                    continue
                heapq.heappop(self._heap)
                self._fire(token, SoftTimeout)
