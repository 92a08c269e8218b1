"""Requests to interrupt running jobs: the keeper hears them from Redis and hands them to its children.

A thread of the keeper waits on the worker's own list. It counts the request on the board, so that children look at what
they have claimed but not begun; marks the slots in which such jobs run; and wakes their children by a signal. Whoever
does not end within CANCEL_GRACE is killed by the supervisor, which reads the same board.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import threading
import time
from collections.abc import Callable

from queue_app import conf
from queue_app.dispatch import connection, workers
from queue_app.worker.shared_state import SharedState

logger = logging.getLogger(__name__)

#: A job that was not found in a slot may be on its way into one: seconds for which it is looked for, and between two
#: looks.
SEARCH_SECONDS, SEARCH_INTERVAL_SECONDS = 1.0, 0.05
#: Seconds between two tries while Redis is away; jittered.
RETRY_SECONDS = 0.5


class InterruptListener:
    """The requests of one worker.

    Args:
        children: the living ones: index on the board → process id.
    """

    def __init__(self, worker_id: str, shared: SharedState, children: Callable[[], dict[int, int]]) -> None:
        self._worker_id = worker_id
        self._shared = shared
        self._children = children
        self._sought: dict[str, float] = {}  # job → until when it is looked for (monotonic)

    def run(self, stop: threading.Event) -> None:
        """Listen until `stop` is set."""
        while not stop.is_set():
            try:
                # A pool of its own: no other answer takes that long.
                client = connection.client(connection.LONGEST_WAIT + 10)
                seconds = SEARCH_INTERVAL_SECONDS if self._sought else connection.LONGEST_WAIT
                self.interrupt(workers.to_interrupt(client, self._worker_id, seconds))
            except connection.Unavailable:
                # The heartbeat says that Redis is away; the duty repeats what is lost.
                stop.wait(RETRY_SECONDS * (0.5 + random.random()))
            except Exception:
                logger.exception("A request to interrupt jobs failed.")
                stop.wait(RETRY_SECONDS)

    def interrupt(self, ids: list[str]) -> None:
        """Have these jobs interrupted, as well as those that were not found at the last look."""
        children = self._children()
        now = time.monotonic()
        if ids:
            # Counted before the slots are looked at: a child looks the other way round, so that one sees the other.
            for index in children:
                self._shared.request_recheck(index)
            self._sought.update(dict.fromkeys(ids, now + SEARCH_SECONDS))
        if not self._sought:
            return
        until = now + conf.get().CANCEL_GRACE
        for index, pid in children.items():
            for running in self._shared.running(index):
                if self._sought.pop(running.id, None) is None:
                    continue
                if self._shared.cancel(index, running.slot, running.id, until):
                    # It may have died: then the job is taken back, and cancelled.
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGUSR1)
        self._sought = {job_id: end for job_id, end in self._sought.items() if end > now}
