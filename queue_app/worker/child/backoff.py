"""Waiting for the database between two tries."""

from __future__ import annotations

import time
from typing import Protocol

#: Seconds between two tries while the database is away: first, and at most.
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.1, 5.0


class StoreMonitor(Protocol):
    """Is told when the database fails, and when it answers again: the recorder."""

    def database_failed(self, error: BaseException) -> None: ...
    def database_answered(self) -> None: ...


class Backoff:
    """Waits between two tries, longer each time. Tells the recorder, so that nothing is claimed meanwhile.

    Attributes:
        has_failed: whether a try has failed. It may have been carried out although its answer was lost.
    """

    def __init__(self, recorder: StoreMonitor) -> None:
        self.has_failed = False
        self._recorder = recorder
        self._pause = FIRST_PAUSE_SECONDS

    def failed(self, error: BaseException) -> None:
        """A try has failed: wait before the next one."""
        self.has_failed = True
        self._recorder.database_failed(error)
        time.sleep(self._pause)
        self._pause = min(self._pause * 2, MAX_PAUSE_SECONDS)

    def over(self) -> None:
        """The database has answered."""
        if self.has_failed:
            self._recorder.database_answered()
