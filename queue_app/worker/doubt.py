"""Jobs that Redis says this child holds, and that the child does not have: the answer to a claim was lost.

A claim that timed out may have been carried out all the same, or will be, when the network or a Redis that stood still
comes round to it; and what could not be given back is still held. Nobody else takes such jobs back: their child lives.
So for a while after such a failure, what the child holds is compared with what it has in its hands.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

import redis

from queue_app.dispatch import workers
from queue_app.dispatch.body import Delivery
from queue_app.lifecycle import recover

logger = logging.getLogger(__name__)

#: Seconds after a failure during which the request may still be carried out: until the kernel gives up on a connection
#: that was closed with its request on the way.
LASTS = 180.0
#: Seconds between two comparisons. A job on its way from the executor to the recorder is in nobody's hands for a
#: moment: only what is strange twice is strange.
LOOK = 1.0


class Doubt:
    """Whether the child holds what it does not have, and the way out.

    Args:
        holder, names: the child, and the queues that it serves.
        in_hand: the ids of all jobs that it has claimed and not acknowledged.
        monotonic: the clock, in seconds.
    """

    def __init__(
        self,
        holder: str,
        names: Iterable[str],
        in_hand: Callable[[], set[str]],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._holder = holder
        self._names = list(names)
        self._in_hand = in_hand
        self._monotonic = monotonic
        self._until = 0.0
        self._next_look = 0.0
        self._strange: set[str] = set()
        self._lock = threading.Lock()

    def arise(self) -> None:
        """Redis has failed in a claim, or in giving back."""
        self._until = self._monotonic() + LASTS

    @property
    def lasts(self) -> bool:
        """Whether there is doubt."""
        return self._until > 0.0 and self._monotonic() < self._until

    def settle(self, client: redis.Redis) -> int:
        """While there is doubt, now and then: what is held and not in hand goes back to where it waited.

        Returns:
            How many jobs the child has let go of.

        Raises:
            Unavailable (see dispatch.connection), DatabaseError: the doubt remains.
        """
        if not self.lasts or self._monotonic() < self._next_look or not self._lock.acquire(blocking=False):
            return 0
        try:
            found = self._look(client)
            self._next_look = self._monotonic() + LOOK
            again, self._strange = found.keys() & self._strange, set(found)
            if not again:
                return 0
            # As the record says: one that has ended meanwhile must not come back.
            recover.give_up(client, self._holder, [found[job_id] for job_id in sorted(again)])
            logger.warning("Redis had failed in the middle of a claim: %d jobs of it go back.", len(again))
            return len(again)
        finally:
            self._lock.release()

    def _look(self, client: redis.Redis) -> dict[str, Delivery]:
        held = {
            job_id: Delivery(name, job_id, raw, at)
            for name in self._names
            for job_id, (at, raw) in workers.held(client, name, self._holder).items()
        }
        for job_id in self._in_hand():
            held.pop(job_id, None)
        return held
