"""What a duty is: a name, an interval, and one function that does it once; and the mandate under which it is done."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import redis

from queue_app import conf
from queue_app.dispatch import workers
from queue_app.dispatch.epochs import WHOLE, Epoch
from queue_app.exceptions import Deposed


def term() -> float:
    """Seconds for which one renewal lets a leader lead: so much shorter than the lease that, with the time until
    another one asks, its duties have moved within the lease."""
    return conf.get().LEASE * 2 / 3


@dataclass(slots=True)
class Mandate:
    """The right to do duties, for as long as the leadership of this token lasts.

    Attributes:
        leader_id: who leads.
        token: a number that no earlier leadership had.
        stop: set when the process is to end.
        unfinished: set by a duty that left work behind because its time was up: it is then due again at once.
        urgent: set by a duty whose next run must not wait for the leader's usual pause.
    """

    client: redis.Redis
    leader_id: str
    token: int
    stop: threading.Event = field(default_factory=threading.Event)
    unfinished: bool = False
    urgent: bool = False
    _epochs: dict[str, Epoch] = field(default_factory=dict)

    @property
    def epochs(self) -> dict[str, Epoch]:
        """Shard → the epoch of its data in Redis, as of the last check (see dispatch/epochs.py). No round trip."""
        if not self._epochs:
            self.check()
        return self._epochs

    @property
    def lost(self) -> bool:
        """Whether the rebuild comes first: Redis has lost data, and it is not known yet what runs."""
        return not all(epoch.is_open for epoch in self.epochs.values())

    @property
    def whole(self) -> bool:
        """Whether Redis has all that it should have."""
        return all(not epoch.lost and epoch.phase == WHOLE for epoch in self.epochs.values())

    def check(self) -> None:
        """Prove that this leadership still lasts, and prolong it; to be called before each batch of writes. One round
        trip, so that a leader that was frozen or cut off stops in the middle.

        Raises:
            Deposed: it is over, or the process shall end.
            Unavailable (see dispatch.connection): nobody can say.
        """
        if self.stop.is_set():
            raise Deposed("This process was told to stop.")
        leads, self._epochs = workers.renew(self.client, self.leader_id, term(), self.token)
        if not leads:
            raise Deposed()


@dataclass(frozen=True, slots=True)
class Duty:
    """Something done again and again by the leader.

    Attributes:
        name: one word.
        interval: least seconds between the beginnings of two runs.
        run: does it once, and returns how many rows or jobs it touched. It must ask `Mandate.check` before each batch
            of writes, be harmless when repeated, and may be left in the middle.
        doc: what it does, for people.
    """

    name: str
    interval: float
    run: Callable[[Mandate], int]
    doc: str

    @property
    def jitter(self) -> float:
        """Most seconds added to the interval, at random, so that duties do not fall into step."""
        return self.interval / 4

    @property
    def longest(self) -> float:
        """Most seconds between the beginnings of two runs, while nothing holds them up."""
        return self.interval + self.jitter
