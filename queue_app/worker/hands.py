"""What a child has in its hands; and how what Redis says that it holds is put right after a call that failed.

A claim, a give-back or an acknowledgement whose answer never came may have taken place or not. Nothing is repeated
blindly: an acknowledgement sent twice could let go of the next attempt of a job. The child looks at what it holds, and
lets go of all that it knows nothing of, as the record says (`recover.give_up`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

import redis

from queue_app.dispatch import workers
from queue_app.dispatch.body import Delivery
from queue_app.lifecycle import recover

#: Seconds during which a queue is looked at again, ever more rarely: a command may reach Redis after its sender has
#: given it up, until the kernel gives up on a connection that was closed with the command on its way.
LATE = 180.0
#: Seconds between the first two looks.
LOOK = 1.0


class Hands:
    """The deliveries of one child that are claimed and not yet let go of.

    Args:
        holder: the name under which the child holds jobs.

    Attributes:
        lock: held from before a claim until its deliveries are in `take`; and while things are put right.
    """

    def __init__(self, holder: str) -> None:
        self.lock = threading.Lock()
        self._holder = holder
        self._deliveries: dict[str, Delivery] = {}
        self._doubts: dict[str, float] = {}  # queue → since when (monotonic)
        self._look_at = 0.0
        self._mutex = threading.Lock()  # of the doubts

    def take(self, deliveries: Iterable[Delivery]) -> None:
        """These were claimed, and will be run or given back."""
        self._deliveries.update({d.id: d for d in deliveries})

    def drop(self, deliveries: Iterable[Delivery]) -> None:
        """Redis was asked to let go of these. Called after the answer, or its absence (see `doubt`): until then nobody
        may put them right. A later delivery of the same job stays."""
        mine = self._deliveries
        for d in deliveries:
            if mine.get(d.id) is d:
                del mine[d.id]

    def doubt(self, names: Iterable[str]) -> None:
        """Something was asked of Redis for these queues, and nobody knows whether it was done."""
        with self._mutex:
            self._look_at = time.monotonic()
            for name in names:
                self._doubts[name] = self._look_at

    @property
    def doubtful(self) -> bool:
        """Whether there is something to look at that has not been looked at."""
        return bool(self._doubts) and time.monotonic() >= self._look_at

    def put_right(self, client: redis.Redis) -> int:
        """Let go of all that this child holds in Redis and has not in its hands. The caller has the lock.

        Returns:
            How many such jobs there were.

        Raises:
            Unavailable (see dispatch.connection), DatabaseError: call it again.
        """
        began = time.monotonic()
        count = 0
        for name in list(self._doubts):
            held = workers.held(client, name, self._holder)
            strange = [
                Delivery(name, job_id, raw, at)
                for job_id, (at, raw) in sorted(held.items())
                if job_id not in self._deliveries
            ]
            if strange:
                recover.give_up(client, self._holder, strange)
                count += len(strange)
        with self._mutex:
            self._doubts = {name: since for name, since in self._doubts.items() if since + LATE > began}
            if self._look_at <= began:  # else a doubt arose meanwhile
                ages = (began - since for since in self._doubts.values())
                self._look_at = began + max(LOOK, min(ages, default=0.0))  # twice as old each time
        return count
