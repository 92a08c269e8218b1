"""The leader: one worker at a time holds the duties. Losing a leader moves them within the lease."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time

from django.db import Error

from queue_app import conf
from queue_app.dispatch import connection, workers
from queue_app.lifecycle import dispatching
from queue_app.maintenance import cancel, promote, prune, reap, reconcile
from queue_app.maintenance.duty import Duty
from queue_app.worker import connections

logger = logging.getLogger(__name__)

DUTIES: tuple[Duty, ...] = (
    reconcile.REBUILD,  # before anything is promoted
    reap.REAP,
    cancel.CANCEL,
    promote.LOAD,
    promote.SAY,
    reconcile.SWEEP,
    reconcile.ORPHANS,
    prune.PRUNE,
)

#: Seconds between two looks at whether something is due.
LOOK = 1.0


class Leader:
    """Runs the duties while this worker leads.

    Args:
        worker_id: who wants to lead.
    """

    def __init__(self, worker_id: str) -> None:
        self._worker_id = worker_id
        self._due = {duty.name: 0.0 for duty in DUTIES}
        self._leads = False
        self._renew_at = 0.0

    def run(self, stop: threading.Event) -> None:
        """Seek to lead, and do the duties, until `stop` is set."""
        while not stop.wait(LOOK if self._leads else LOOK * (1 + random.random())):
            try:
                self.step()
            except connection.Unavailable as error:
                dispatching.redis_failed(error)
            except Error as error:
                logger.warning("A duty failed: %s", error)
                connections.refresh(close=True)
            except Exception:
                logger.exception("A duty failed.")
        if self._leads:
            with contextlib.suppress(*connection.Unavailable):  # the lease ends by itself
                workers.resign(connection.client(), self._worker_id)

    def step(self) -> None:
        """Renew the leadership when it is time, and do what is due."""
        now = time.monotonic()
        client = connection.client()
        if now >= self._renew_at:
            lease = conf.get().LEASE
            self._leads = workers.lead(client, self._worker_id, lease)
            self._renew_at = now + lease / 5
        if not self._leads:
            return
        for duty in DUTIES:
            if time.monotonic() >= self._due[duty.name]:
                self._due[duty.name] = time.monotonic() + duty.interval * (1 + random.random() / 4)
                connections.refresh()
                duty.run(client, self._worker_id)
