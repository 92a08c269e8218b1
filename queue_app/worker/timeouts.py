"""Soft time limits: `SoftTimeout` raised inside the task. The hard limit is the supervisor's (see shared.py).

In the main thread an interval timer does it; in other threads the interpreter is asked to raise (CPython's
`PyThreadState_SetAsyncExc`). Neither can interrupt a call into C code that never returns: the hard limit does.
"""

from __future__ import annotations

import ctypes
import heapq
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from queue_app.exceptions import SoftTimeout


def _raise(signum: int, frame: Any) -> None:
    raise SoftTimeout("The attempt reached its time limit.")


@contextmanager
def in_main_thread(seconds: float) -> Iterator[None]:
    """Raise SoftTimeout in the block after `seconds`. Main thread only."""
    previous = signal.signal(signal.SIGALRM, _raise)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


class ThreadTimer:
    """Raises SoftTimeout in other threads; one thread of its own, started at the first use."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._heap: list[tuple[float, int]] = []
        self._armed: dict[int, int] = {}  # token → thread id
        self._fired: set[int] = set()
        self._token = 0
        self._thread: threading.Thread | None = None

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Raise SoftTimeout in the block after `seconds`, in the calling thread."""
        with self._condition:
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="timeouts", daemon=True)
                self._thread.start()
            self._token += 1
            token = self._token
            self._armed[token] = threading.get_ident()
            heapq.heappush(self._heap, (time.monotonic() + seconds, token))
            if (
                len(self._heap) > 2 * len(self._armed) + 64
            ):  # most belong to blocks that have ended long before
                self._heap = [entry for entry in self._heap if entry[1] in self._armed]
                heapq.heapify(self._heap)
            self._condition.notify()
        try:
            yield
        finally:
            if self._armed.pop(token, None) is None:
                # The watcher took it: the exception was raised, or is on its way. Meet it here, not elsewhere.
                try:
                    while token not in self._fired:
                        time.sleep(0.0005)
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(threading.get_ident()), None)
                except SoftTimeout:
                    pass  # the block had ended in time
                self._fired.discard(token)

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
                thread = self._armed.pop(token, None)
                if thread is not None:
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(
                        ctypes.c_ulong(thread), ctypes.py_object(SoftTimeout)
                    )
                    self._fired.add(token)
