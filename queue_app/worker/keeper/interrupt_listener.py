"""Requests to interrupt running jobs: the keeper receives them from Redis and passes them to its children.

A thread of the keeper waits on the worker's own list. For each request it does three things in the shared state and
beside it. It counts the request, so that children check what they have claimed but not begun. It marks the slots in
which the jobs run. It sends the children a signal. A child whose job does not end within CANCEL_GRACE is killed by the
supervisor, which reads the same shared state.
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

#: A job that is in no slot may be about to enter one: seconds for which it is searched, and between two searches.
SEARCH_SECONDS, SEARCH_INTERVAL_SECONDS = 1.0, 0.05
#: Seconds between two tries while Redis is away; jittered.
RETRY_SECONDS = 0.5


class InterruptListener:
    """Handles the requests to one worker.

    Args:
        shared: the worker's shared state.
        children: returns the living children: index in the shared state → process id.
    """

    def __init__(self, worker_id: str, shared: SharedState, children: Callable[[], dict[int, int]]) -> None:
        self._worker_id = worker_id
        self._shared = shared
        self._children = children
        self._sought: dict[str, float] = {}  # job id → until when it is searched (monotonic)

    def run(self, stop: threading.Event) -> None:
        """Listen until `stop` is set."""
        while not stop.is_set():
            try:
                # A pool of its own: no other answer takes that long.
                client = connection.client(connection.LONGEST_WAIT + 10)
                seconds = SEARCH_INTERVAL_SECONDS if self._sought else connection.LONGEST_WAIT
                self.interrupt(workers.to_interrupt(client, self._worker_id, seconds))
            except connection.Unavailable:
                # The heartbeat reports the outage. The leader repeats requests that were lost.
                stop.wait(RETRY_SECONDS * (0.5 + random.random()))
            except Exception:
                logger.exception("A request to interrupt jobs failed.")
                stop.wait(RETRY_SECONDS)

    def interrupt(self, ids: list[str]) -> None:
        """Interrupt these jobs, and those that the last search did not find."""
        children = self._children()
        now = time.monotonic()
        if ids:
            # Count first, then read the slots. A child fills its slot first, then reads the count: one sees the other.
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
                    # If the child has exited, its job is recovered, and cancelled then.
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGUSR1)
        self._sought = {job_id: end for job_id, end in self._sought.items() if end > now}
