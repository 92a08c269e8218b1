"""What a child has claimed but not started, and how many it should claim next."""

from __future__ import annotations

import time
from collections import deque

from queue_app import conf
from queue_app.domain.delivery import Delivery

#: Seconds that a claimed batch should take: long enough to make round trips cheap, short enough not to hoard.
BATCH_SECONDS = 0.1


class Prefetch:
    """Claimed, unstarted deliveries. Executors take from the front; what is given back leaves from the end. Both
    are single, atomic operations of a deque, so that no lock is needed and none is both run and given back."""

    def __init__(self) -> None:
        self._deliveries: deque[Delivery] = deque()
        self._batch_size = 1
        self._since = 0.0

    def __len__(self) -> int:
        return len(self._deliveries)

    def extend(self, deliveries: list[Delivery]) -> None:
        self._since = time.monotonic()
        self._deliveries.extend(deliveries)

    def take(self) -> Delivery | None:
        """The next one to run."""
        try:
            return self._deliveries.popleft()
        except IndexError:
            return None

    def unstarted(self) -> list[Delivery]:
        """What has not been started at this moment."""
        return list(self._deliveries)

    def drain(self) -> list[Delivery]:
        """All that has not been started, in the order to run them; they are the caller's now."""
        given: list[Delivery] = []
        while True:
            try:
                given.append(self._deliveries.pop())
            except IndexError:
                given.reverse()
                return given

    def waited(self) -> float:
        """Seconds for which the last claim has been here; 0 when all of it has been started."""
        return time.monotonic() - self._since if self._deliveries else 0.0

    # how many to claim

    @property
    def batch_size(self) -> int:
        return self._batch_size

    def observe(self, count: int, seconds: float) -> None:
        """`count` jobs took `seconds`: double while they are short, fall back when they are not."""
        if seconds > BATCH_SECONDS:
            self._batch_size = max(1, min(self._batch_size, int(count * BATCH_SECONDS / seconds)))
        elif count >= self._batch_size:
            self._batch_size = min(self._batch_size * 2, conf.get().CLAIM_MAX)

    def long_job(self) -> None:
        """A job runs long: one at a time from now on."""
        self._batch_size = 1
