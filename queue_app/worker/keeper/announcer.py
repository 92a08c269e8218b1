"""The announcer: checks whether Redis has lost its data, and tells it again what a worker's children run."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable

import redis
from django.db import Error

from queue_app.dispatch import connection, epochs, workers
from queue_app.dispatch.epochs import Epoch
from queue_app.lifecycle import database
from queue_app.lifecycle.recovery import recover
from queue_app.worker.shared_state import SharedState

logger = logging.getLogger(__name__)

#: Seconds between two checks of the data; and while Redis has lost them, until what runs is announced.
CHECK_SECONDS, LOST_CHECK_SECONDS = 1.0, 0.2


class Announcer:
    """Announces what one worker runs.

    Args:
        shared: the worker's shared state.
        children: returns the living children: serial → index in the shared state.
        beat_now: called when Redis may have forgotten the worker.
    """

    def __init__(
        self,
        worker_id: str,
        shared: SharedState,
        children: Callable[[], dict[int, int]],
        beat_now: Callable[[], object],
    ) -> None:
        self._worker_id = worker_id
        self._shared = shared
        self._children = children
        self._beat_now = beat_now
        self._epochs_are_lost = False
        #: Shard → its epochs that were seen, in their order → writes counted, as last seen.
        self._counts: defaultdict[str, dict[str, int]] = defaultdict(dict)

    def check(self) -> float:
        """Announce what runs if Redis lost its data or went back in time.

        This includes losses that were repaired while this process stood still, or before it was started.

        Returns:
            Seconds until the next check.
        """
        try:
            client = connection.client()
            found = epochs.read(client)
            self._end_rewound_epochs(client, found)
        except connection.Unavailable:
            return CHECK_SECONDS
        if any(epoch.lost for epoch in found.values()):
            if not self._epochs_are_lost:
                self._epochs_are_lost = True
                self._flag_data_loss()
            self._beat_now()
            return LOST_CHECK_SECONDS  # the leader drops stale data before anything is announced
        self._epochs_are_lost = False
        names = "|".join(epoch.name for epoch in found.values())
        if not self._shared.has_seen_epochs(names):
            self._beat_now()
            if not self._announce():
                return LOST_CHECK_SECONDS
            try:
                for shard, epoch in found.items():
                    epochs.announce(client, shard, epoch.name, self._worker_id)
            except connection.Unavailable:
                return LOST_CHECK_SECONDS
            self._shared.see_epochs(names)
        return CHECK_SECONDS

    def _end_rewound_epochs(self, client: redis.Redis, found: dict[str, Epoch]) -> None:
        """End the epochs of servers whose data went back in time, where the server's life has no name.

        The data did if fewer writes of the same epoch are counted than before, or if an earlier epoch is back.
        """
        for shard, epoch in found.items():
            if epoch.life != epochs.UNNAMED:
                continue
            counts = self._counts[shard]
            was = counts.setdefault(epoch.name, epoch.writes)
            if epoch.writes < was or epoch.name != next(reversed(counts)):
                epochs.end(client, shard, epoch)
            else:
                counts[epoch.name] = epoch.writes

    def _flag_data_loss(self) -> None:
        for index in self._children().values():
            self._shared.flag_data_loss(index)

    def _announce(self) -> bool:
        """Tell Redis what the living children run, before those jobs are pushed again.

        What the children have claimed but not begun is left to those that claim it then.

        Returns:
            Whether both stores have answered.
        """
        announced = self._shared.has_seen_any_epochs
        if announced:
            self._flag_data_loss()
        try:
            database.refresh()
            for serial, index in self._children().items():
                running = [(r.id, r.number, r.started_at) for r in self._shared.running(index)]
                if running:
                    name = workers.holder(self._worker_id, serial)
                    recover.announce_running(connection.client(), name, running)
                    announced = True
        except (Error, *connection.Unavailable) as error:
            logger.warning("What is running could not be announced to Redis: %s", connection.said(error))
            database.refresh(close=True)
            return False
        if announced:
            self._flag_data_loss()  # again: Redis now says that children hold what they released meanwhile
        return True
