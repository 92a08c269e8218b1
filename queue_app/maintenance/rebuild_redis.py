"""Rebuild: after Redis lost its data or went back in time, stale data go and what waits is put back from the record.

Also removes keys that an older release left, once for each life of Redis's data.
"""

from __future__ import annotations

import logging
import time

import redis

from queue_app.dispatch import epochs, keys
from queue_app.dispatch.epochs import Epoch
from queue_app.lifecycle.recovery import rebuild
from queue_app.lifecycle.recovery.rebuild import Refill
from queue_app.maintenance.duty import Duty, LeaderTerm

logger = logging.getLogger(__name__)

#: Seconds after which a run leaves the rest to the next, which comes at once: other duties wait behind it.
SLICE = 1.0
#: Version of the layout of keys; see dispatch/keys.py.
LAYOUT = "2"
#: Seconds within which a server may come back to life if connections lead to several by turns; later it is one that
#: lived on, and has become the master again.
TURNS = 60.0
#: Seconds for which all connections must lead to one server before an epoch without a life gets its life; and seconds
#: between two looks.
STABLE, LIFE_LOOK = 60.0, 5.0


class Rebuild:
    """The state of a rebuild; begun anew by each leader."""

    def __init__(self) -> None:
        self._closed_at: dict[str, float] = {}  # epoch's name → when it was first seen closed (monotonic)
        self._refill: Refill | None = None
        self._refilling: tuple[str, ...] = ()  # the names of the epochs that are refilled
        self._restored = 0  # jobs put back by this rebuild
        self._ended: dict[str, float] = {}  # lives of epochs that ended → when (monotonic)
        self._life = ("", 0.0, 0.0)  # the server's, where epochs have none; since when; when it was looked at
        self._layout_cursor: int | None = None
        self._layout_of: str | None = None  # name of the epoch for which the layout was looked at

    def run(self, term: LeaderTerm) -> int:
        """Take the next steps of a rebuild, if one is needed.

        Returns:
            How many jobs were put back.
        """
        epochs_now = term.epochs
        if all(epoch.phase == epochs.WHOLE and not epoch.lost for epoch in epochs_now.values()):
            self._bind(term, epochs_now)
            self._drop_old_layout(term, epochs_now)
            return 0
        term.unfinished = True
        if lost := {shard: epoch for shard, epoch in epochs_now.items() if epoch.lost}:
            self._begin(term, lost)
            return 0
        if closed := {shard: epoch for shard, epoch in epochs_now.items() if epoch.phase == epochs.CLOSED}:
            self._open(term, closed)
            return 0
        return self._fill(term, {s: e for s, e in epochs_now.items() if e.phase == epochs.FILLING})

    def _begin(self, term: LeaderTerm, lost: dict[str, Epoch]) -> None:
        life, now = epochs.life_of_server(term.client), time.monotonic()
        if now - self._ended.get(life, -TURNS) < TURNS:  # connections lead to several servers by turns
            life = epochs.UNNAMED
        self._ended.update({epoch.life: now for epoch in lost.values() if epoch.life != life})
        for shard, epoch in lost.items():
            # With an epoch, if of another life, the data are as they were at some moment.
            torn = not epoch.life
            dropped = rebuild.begin(term.client, shard, life, term.check, unreachable=torn)
            if epoch.life or dropped:
                logger.warning(
                    "Redis lost its data or went back in time; %d stale jobs were dropped.", dropped
                )
        term.check()

    def _bind(self, term: LeaderTerm, epochs_now: dict[str, Epoch]) -> None:
        """Let epochs without a life have the server's, once it has been the same for a while."""
        unnamed = {shard: epoch for shard, epoch in epochs_now.items() if epoch.life == epochs.UNNAMED}
        (life, since, looked), now = self._life, time.monotonic()
        if not unnamed or now - looked < LIFE_LOOK:
            return
        found = epochs.life_of_server(term.client)
        if found != life or now - looked > 3 * LIFE_LOOK:
            since = now
        self._life = (found, since, now)
        if found == epochs.UNNAMED or now - since < STABLE:
            return
        term.check()
        for shard, epoch in unnamed.items():
            if epochs.bind(term.client, shard, epoch, found):
                logger.info("All connections have led to one Redis for a while: its life is named again.")
        term.check()

    def _open(self, term: LeaderTerm, closed: dict[str, Epoch]) -> None:
        """Let claims begin when all living workers have announced what they run, or have had the time for it."""
        now = time.monotonic()
        for shard, epoch in closed.items():
            since = self._closed_at.setdefault(epoch.name, now)
            silent = rebuild.silent_workers(term.client, shard, epoch.name)
            if silent and now - since < rebuild.limit_of_announcing():
                continue
            if silent:
                logger.warning("%d workers did not announce in time what they run.", len(silent))
            term.check()
            del self._closed_at[epoch.name]
            epochs.open_claims(term.client, shard, epoch)
        term.check()

    def _fill(self, term: LeaderTerm, filling: dict[str, Epoch]) -> int:
        names = tuple(epoch.name for epoch in filling.values())
        refill, self._refill = self._refill, None  # if this fails, it begins anew
        if refill is None or self._refilling != names:
            refill, self._refilling = Refill(set(filling)), names
        count = refill.run(term.client, SLICE, term.check)
        self._restored += count
        if not refill.done:
            self._refill = refill
            return count
        if refill.full:
            logger.warning(
                "Redis is full: the other waiting jobs are put back as room is made. Raise its maxmemory."
            )
        term.check()
        for shard, epoch in filling.items():
            epochs.complete(term.client, shard, epoch)
        if self._restored:
            logger.warning("Redis had lost its data: %d waiting jobs were put back.", self._restored)
        self._restored = 0
        term.check()
        return count

    def _drop_old_layout(self, term: LeaderTerm, epochs_now: dict[str, Epoch]) -> None:
        """Remove keys of older layouts, some at a time."""
        name = "|".join(epoch.name for epoch in epochs_now.values())
        if self._layout_of == name:
            return
        client: redis.Redis = term.client
        if self._layout_cursor is None and client.get(keys.layout()) == LAYOUT:
            self._layout_of = name
            return
        until, cursor = time.monotonic() + SLICE / 2, self._layout_cursor or 0
        while time.monotonic() < until:
            term.check()
            cursor, old = epochs.drop_old_keys(client, cursor)
            if old:
                logger.info("%d keys that an older release left in Redis were removed.", old)
            if not cursor:
                self._layout_cursor, self._layout_of = None, name
                client.set(keys.layout(), LAYOUT)
                return
        self._layout_cursor = cursor
        term.unfinished = True


#: Quick to begin: claims wait for it.
REBUILD = Duty(
    "rebuild", 0.8, Rebuild().run, "pushes all that waits when Redis has lost its data", urgent=True
)
