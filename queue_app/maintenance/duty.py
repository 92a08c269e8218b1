"""What a duty is: a name, an interval, and one function that does it once; and the mandate under which it is done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import redis

from queue_app import conf
from queue_app.dispatch import workers
from queue_app.dispatch.epochs import WHOLE, Epoch
from queue_app.exceptions import LeadershipLost

#: Seconds after which a run leaves the rest to the next one, which comes at once: other duties wait behind it.
MAX_RUN_SECONDS = 2.0

P = TypeVar("P")


def term_seconds() -> float:
    """Seconds for which one renewal lets a leader lead: so much shorter than the lease that, with the time until
    another one asks, its duties have moved within the lease."""
    return conf.get().LEASE * 2 / 3


@dataclass(slots=True)
class LeaderTerm:
    """The right to do duties, for as long as the leadership of this token lasts.

    Attributes:
        leader_id: who leads.
        token: a number that no earlier leadership had.
        stop: set when the process is to end.
        unfinished: set by a duty that left work behind because its time was up: it is then due again at once.
        began: when the present run of a duty began, on the monotonic clock.
        renewed: when the leadership was last prolonged, on the monotonic clock.
    """

    client: redis.Redis
    leader_id: str
    token: int
    stop: threading.Event = field(default_factory=threading.Event)
    unfinished: bool = False
    began: float = field(default_factory=time.monotonic)
    renewed: float = field(default_factory=time.monotonic)
    _epochs: dict[str, Epoch] = field(default_factory=dict)

    def begin(self) -> None:
        """A run of a duty begins."""
        self.unfinished, self.began = False, time.monotonic()

    @property
    def over(self) -> bool:
        """Whether the present run has had its time. It then sets `unfinished` and returns."""
        return time.monotonic() - self.began >= MAX_RUN_SECONDS

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
            Unavailable (see dispatch.connection): it cannot be asked.
        """
        self._heed_stop()
        asked = time.monotonic()
        leads, self._epochs = workers.renew(self.client, self.leader_id, term_seconds(), self.token)
        if not leads:
            raise LeadershipLost()
        self.renewed = asked

    def keep(self) -> None:
        """Prolong the leadership when a third of its time has passed; to be called in every loop, also where nothing is
        written. Most calls cost no round trip.

        Raises:
            As `check`.
        """
        self._heed_stop()
        if time.monotonic() - self.renewed >= term_seconds() / 3:
            self.check()

    def _heed_stop(self) -> None:
        if self.stop.is_set():
            raise LeadershipLost("This process was told to stop.")


@dataclass(slots=True)
class Walk(Generic[P]):
    """A walk through rows in parts, which goes over several runs of a duty if there are many.

    Attributes:
        behind: the place up to which it has come; None at the beginning.
    """

    behind: P | None = None

    def go_on(self, term: LeaderTerm, step: Callable[[P | None], tuple[int, P | None]]) -> int:
        """Walk on until the end, or until the run has had its time.

        Args:
            step: does the part behind a place. Returns how many it touched, and the place up to which it has come,
                or None at the end.

        Returns:
            How many were touched.

        Raises:
            As `LeaderTerm.keep`, and as `step`.
        """
        count = 0
        while True:
            term.keep()
            touched, self.behind = step(self.behind)
            count += touched
            term.unfinished = self.behind is not None
            if self.behind is None or term.over:
                return count


@dataclass(frozen=True, slots=True)
class Duty:
    """Something done again and again by the leader.

    Attributes:
        name: one word.
        interval: least seconds between the beginnings of two runs.
        run: does it once, and returns how many rows or jobs it touched. It must call `LeaderTerm.check` before each
            batch of writes and `LeaderTerm.keep` in every loop, and end soon when `LeaderTerm.over`. To repeat it must
            be harmless, as it may be left in the middle.
        doc: what it does, for people.
        urgent: it is looked at between the runs of all others, which may each take `MAX_RUN_SECONDS`.
    """

    name: str
    interval: float
    run: Callable[[LeaderTerm], int]
    doc: str
    urgent: bool = False

    @property
    def jitter(self) -> float:
        """Most seconds added to the interval, at random, so that duties do not fall into step."""
        return self.interval / 4

    @property
    def longest(self) -> float:
        """Most seconds between the beginnings of two runs, while nothing holds them up."""
        return self.interval + self.jitter
