"""The leader's term: the right to do duties, and what is known of Redis's data in it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import redis

from queue_app import conf
from queue_app.dispatch import workers
from queue_app.dispatch.epochs import WHOLE, Epoch
from queue_app.exceptions import LeadershipLost

#: Seconds after which a run leaves the rest to the next run, which begins at once: other duties wait meanwhile.
MAX_RUN_SECONDS = 2.0


def term_seconds() -> float:
    """Seconds for which one renewal lets a leader lead.

    It is shorter than the lease. Other processes ask only now and then, and the duties of a killed leader must still
    move within the lease.
    """
    return conf.get().LEASE * 2 / 3


@dataclass(slots=True)
class LeaderTerm:
    """The right to do duties, for as long as the leadership with this token lasts.

    Attributes:
        leader_id: who leads.
        token: a number that no earlier leadership had.
        stop: set when the process is to end.
        unfinished: set by a duty that left work behind because its time was up. It is then due again at once.
        run_began: when the present run of a duty began, on the monotonic clock.
        renewed: when the leadership was last renewed, on the monotonic clock.
    """

    client: redis.Redis
    leader_id: str
    token: int
    stop: threading.Event = field(default_factory=threading.Event)
    unfinished: bool = False
    run_began: float = field(default_factory=time.monotonic)
    renewed: float = field(default_factory=time.monotonic)
    _epochs: dict[str, Epoch] = field(default_factory=dict)

    def begin_run(self) -> None:
        """A run of a duty begins: it has all its time, and has left nothing behind."""
        self.unfinished, self.run_began = False, time.monotonic()

    def out_of_time(self) -> bool:
        """Whether the present run has used up its time. The duty then sets `unfinished` and returns."""
        return time.monotonic() - self.run_began >= MAX_RUN_SECONDS

    @property
    def epochs(self) -> dict[str, Epoch]:
        """Shard → the epoch of its data in Redis, as of the last check (see dispatch/epochs.py). No round trip, except
        the first time."""
        if not self._epochs:
            self.check()
        return self._epochs

    @property
    def needs_rebuild(self) -> bool:
        """Whether the rebuild comes first: Redis lost data, and it is not known yet which jobs run."""
        return not all(epoch.is_open for epoch in self.epochs.values())

    @property
    def is_complete(self) -> bool:
        """Whether Redis has all that it should have: no data are lost, and no rebuild is under way."""
        return all(not epoch.lost and epoch.phase == WHOLE for epoch in self.epochs.values())

    def check(self) -> None:
        """Prove that this leadership still lasts, and renew it. A duty calls this before each batch of writes, so that
        a leader that was frozen or cut off stops in the middle. One round trip.

        Raises:
            LeadershipLost: it is over, or the process is to end.
            Unavailable (see dispatch.connection): Redis cannot be asked.
        """
        self._check_stop()
        asked = time.monotonic()
        leads, self._epochs = workers.renew(self.client, self.leader_id, term_seconds(), self.token)
        if not leads:
            raise LeadershipLost()
        self.renewed = asked

    def keep_alive(self) -> None:
        """Renew the leadership when a third of its time has passed. A duty calls this in every loop, also where nothing
        is written. Most calls cost no round trip.

        Raises:
            As `check`.
        """
        self._check_stop()
        if time.monotonic() - self.renewed >= term_seconds() / 3:
            self.check()

    def _check_stop(self) -> None:
        if self.stop.is_set():
            raise LeadershipLost("This process was told to stop.")
