"""Rebuilds Redis after it lost its data or went back in time: drops what is stale, and pushes what waits.

See dispatch/epochs.py for the phases. The duty also removes keys that an older release left, once for each epoch.
"""

from __future__ import annotations

import logging
import time

import redis

from queue_app.dispatch import epochs, keys
from queue_app.dispatch.epochs import Epoch
from queue_app.lifecycle.recovery import rebuild
from queue_app.lifecycle.recovery.rebuild import Refill
from queue_app.maintenance.duty import Duty
from queue_app.maintenance.leader_term import LeaderTerm

logger = logging.getLogger(__name__)

#: Seconds after which a run leaves the rest to the next run, which begins at once: other duties wait meanwhile.
MAX_RUN_SECONDS = 1.0
#: Version of the layout of keys; see dispatch/keys.py.
LAYOUT_VERSION = "2"
#: If the life of a server returns within so many seconds after its epoch ended, connections lead to several servers in
#: turn. Later, the server went on running and has become the primary again.
ALTERNATING_SECONDS = 60.0
#: Seconds for which all connections must lead to one server before an epoch without a life is bound to its life.
STABLE_SECONDS = 60.0
#: Seconds between two checks of the server's life.
LIFE_CHECK_SECONDS = 5.0


class RebuildRedis(Duty):
    """Takes the steps of a rebuild: begin, open the claims, refill."""

    name = "rebuild"
    interval = 0.8  # short, as claims wait for it
    doc = "pushes all that waits when Redis has lost its data"
    urgent = True

    def __init__(self) -> None:
        self._closed_at: dict[str, float] = {}  # name of an epoch → when it was first seen closed (monotonic)
        self._refill: Refill | None = None
        self._refilling: tuple[str, ...] = ()  # names of the epochs that are refilled
        self._restored = 0  # jobs put back by this rebuild
        self._ended: dict[str, float] = {}  # life of an epoch that ended → when (monotonic)
        # Where epochs have no life: the server's life, since when it is the same, when it was checked (monotonic).
        self._life = ("", 0.0, 0.0)
        self._layout_cursor: int | None = None
        self._layout_checked_for: str | None = None  # names of the epochs in which old keys were removed

    def run(self, term: LeaderTerm) -> int:
        """Take the next step of a rebuild, if one is needed.

        Returns:
            How many jobs were pushed.
        """
        epochs_now = term.epochs
        if all(epoch.phase == epochs.WHOLE and not epoch.lost for epoch in epochs_now.values()):
            self._bind_to_life(term, epochs_now)
            self._drop_old_layout(term, epochs_now)
            return 0
        term.unfinished = True
        if lost_epochs := {shard: epoch for shard, epoch in epochs_now.items() if epoch.lost}:
            self._begin(term, lost_epochs)
            return 0
        if closed := {shard: epoch for shard, epoch in epochs_now.items() if epoch.phase == epochs.CLOSED}:
            self._open_claims(term, closed)
            return 0
        return self._refill_shards(term, {s: e for s, e in epochs_now.items() if e.phase == epochs.FILLING})

    def _begin(self, term: LeaderTerm, lost_epochs: dict[str, Epoch]) -> None:
        """Drop stale data and begin an epoch in each of these shards."""
        life, now = epochs.life_of_server(term.client), time.monotonic()
        if now - self._ended.get(life, -ALTERNATING_SECONDS) < ALTERNATING_SECONDS:
            life = epochs.UNNAMED  # connections lead to several servers in turn
        self._ended.update({epoch.life: now for epoch in lost_epochs.values() if epoch.life != life})
        for shard, epoch in lost_epochs.items():
            # Data with an epoch of another life are consistent, but old. Without an epoch, any key may be missing.
            is_partial = not epoch.life
            dropped = rebuild.begin(term.client, shard, life, term.check, unreachable=is_partial)
            if epoch.life or dropped:
                logger.warning(
                    "Redis lost its data or went back in time; %d stale jobs were dropped.", dropped
                )
        term.check()

    def _bind_to_life(self, term: LeaderTerm, epochs_now: dict[str, Epoch]) -> None:
        """Bind epochs without a life to the server's life, once it has been the same for a while."""
        unnamed = {shard: epoch for shard, epoch in epochs_now.items() if epoch.life == epochs.UNNAMED}
        (life, since, checked_at), now = self._life, time.monotonic()
        if not unnamed or now - checked_at < LIFE_CHECK_SECONDS:
            return
        found = epochs.life_of_server(term.client)
        if found != life or now - checked_at > 3 * LIFE_CHECK_SECONDS:
            since = now
        self._life = (found, since, now)
        if found == epochs.UNNAMED or now - since < STABLE_SECONDS:
            return
        term.check()
        for shard, epoch in unnamed.items():
            if epochs.bind(term.client, shard, epoch, found):
                logger.info("All connections have led to one Redis for a while: its life is named again.")
        term.check()

    def _open_claims(self, term: LeaderTerm, closed: dict[str, Epoch]) -> None:
        """Let claims begin when all living workers have announced what they run, or when their time is over."""
        now = time.monotonic()
        for shard, epoch in closed.items():
            since = self._closed_at.setdefault(epoch.name, now)
            missing = rebuild.unannounced_workers(term.client, shard, epoch.name)
            if missing and now - since < rebuild.announcement_timeout():
                continue
            if missing:
                logger.warning("%d workers did not announce in time what they run.", len(missing))
            term.check()
            del self._closed_at[epoch.name]
            epochs.open_claims(term.client, shard, epoch)
        term.check()

    def _refill_shards(self, term: LeaderTerm, filling: dict[str, Epoch]) -> int:
        """Push a part of what waits. Returns how many jobs."""
        names = tuple(epoch.name for epoch in filling.values())
        refill, self._refill = self._refill, None  # after an error it begins again
        if refill is None or self._refilling != names:
            refill, self._refilling = Refill(set(filling)), names
        count = refill.run(term.client, MAX_RUN_SECONDS, term.check)
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
        """Remove keys of older layouts, some in each run."""
        name = "|".join(epoch.name for epoch in epochs_now.values())
        if self._layout_checked_for == name:
            return
        client: redis.Redis = term.client
        if self._layout_cursor is None and client.get(keys.layout()) == LAYOUT_VERSION:
            self._layout_checked_for = name
            return
        until, cursor = time.monotonic() + MAX_RUN_SECONDS / 2, self._layout_cursor or 0
        while time.monotonic() < until:
            term.check()
            cursor, old = epochs.drop_old_keys(client, cursor)
            if old:
                logger.info("%d keys that an older release left in Redis were removed.", old)
            if not cursor:
                self._layout_cursor, self._layout_checked_for = None, name
                client.set(keys.layout(), LAYOUT_VERSION)
                return
        self._layout_cursor = cursor
        term.unfinished = True
