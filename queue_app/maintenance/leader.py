"""The leader: one process at a time does the duties. Losing a leader moves them within the lease."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable

import redis
from django.db import Error

from queue_app import clock, conf
from queue_app.dispatch import connection, workers
from queue_app.exceptions import Deposed
from queue_app.lifecycle import dispatching
from queue_app.maintenance import cancel, history, promote, prune, reap, reconcile, stats, summarize, tick
from queue_app.maintenance.duty import UNSEEN, Duty, Mandate, term
from queue_app.maintenance.history import History
from queue_app.worker import connections

logger = logging.getLogger(__name__)

DUTIES: tuple[Duty, ...] = (
    reconcile.REBUILD,  # before anything is promoted
    reap.REAP,
    cancel.CANCEL,
    tick.TICK,
    promote.LOAD,
    promote.SAY,
    reconcile.SWEEP,
    reconcile.BACKLOG,
    reconcile.ORPHANS,
    stats.STATS,
    prune.PRUNE,
    summarize.SUMMARIZE,
)

#: Seconds between two looks of the leader at whether something is due; fewer when the lease is very short.
LOOK = 1.0
#: Seconds within which a process that has started seeks to lead.
FIRST = 0.5
#: Seconds between two notes of runs in which there was nothing to do.
KEEP = 5.0


class Leader:
    """Seeks to lead, and does the duties while it does.

    Args:
        leader_id: who wants to lead: a worker's id, or one made for `runmaintenance`.
        stop: set when this process shall end; a duty is then left in the middle.
        changed: called with the token when this process begins to lead, and with 0 when it no longer does.
        duties: what there is to do, in this order.
    """

    def __init__(
        self,
        leader_id: str,
        stop: threading.Event,
        changed: Callable[[int], None] | None = None,
        duties: tuple[Duty, ...] = DUTIES,
    ) -> None:
        self._id = leader_id
        self._host = f"{socket.gethostname()}:{os.getpid()}"
        self._stop = stop
        self._changed = changed or (lambda token: None)
        self._duties = duties
        self._due: dict[str, float] = {}
        self._histories: dict[str, History] = {}
        self._token = 0
        self._unwritten: set[str] = set()
        self._news = False
        self._write_at = 0.0

    def run(self) -> None:
        """Seek to lead, and do the duties, until told to stop."""
        pause = FIRST * random.random()  # not all workers of a deployment in the same moment
        while not self._stop.wait(pause):
            pause = self._pause()
            try:
                self.step()
            except connection.Unavailable as error:
                dispatching.redis_failed(error)
            except Exception:
                logger.exception("Leading failed.")
        if self._token:
            with contextlib.suppress(*connection.Unavailable):  # the leadership ends by itself
                workers.resign(connection.client(), self._id, self._token)
            self._lead_no_more()

    def _pause(self) -> float:
        often = conf.get().LEASE / 5
        return min(LOOK, often) if self._token else often * (0.75 + random.random() / 2)

    def step(self) -> None:
        """Renew the leadership, or seek it; do what is due.

        Raises:
            Unavailable (see dispatch.connection): Redis is away.
        """
        client = connection.client()
        mandate = self._lead(client)
        if mandate is None:
            return
        try:
            for duty in self._duties:
                if time.monotonic() >= self._due.get(duty.name, 0.0):
                    self._do(duty, mandate)
        except Deposed:
            if self._stop.is_set():
                return
            logger.warning("%s", Deposed())
            self._lead_no_more()
            return  # what is known of the duties is for the new leader to write
        self._write(client)

    def _write(self, client: redis.Redis) -> None:
        """Keep what was done; runs in which there was nothing to do are kept together, every few seconds."""
        now = time.monotonic()
        if self._news or now >= self._write_at:
            history.write(client, self._histories, self._unwritten)
            self._unwritten.clear()
            self._news, self._write_at = False, now + KEEP

    def _lead(self, client: redis.Redis) -> Mandate | None:
        """Stay the leader, or become it, if nobody else leads: the mandate, if so."""
        epoch: str | None = UNSEEN
        if self._token:
            leads, epoch = workers.renew(client, self._id, term(), self._token)
            if not leads:
                self._lead_no_more()
        if not self._token and (token := workers.lead(client, self._id, term())):
            # The duties go on where the leader before left off, and are all due: nobody knows since when.
            # What is known here besides is of a time before Redis lost its data.
            self._histories |= history.read(client)
            self._due.clear()
            self._unwritten.clear()
            self._write_at = 0.0
            self._token, epoch = token, UNSEEN
            self._changed(token)
        return Mandate(client, self._id, self._token, self._stop, epoch=epoch) if self._token else None

    def _lead_no_more(self) -> None:
        self._token = 0
        self._changed(0)

    def _do(self, duty: Duty, mandate: Mandate) -> None:
        """One run. What goes wrong is kept with the duty, and logged when it is new; the other duties go on unless
        Redis is away.

        Raises:
            Deposed: in the middle of it, the leadership was found to be over.
            Unavailable (see dispatch.connection): Redis is away.
        """
        found = self._histories.setdefault(duty.name, History())
        self._unwritten.add(duty.name)
        at, began, count, error = clock.seconds(), time.monotonic(), 0, ""
        mandate.unfinished = False
        self._due[duty.name] = began + duty.interval + duty.jitter * random.random()
        try:
            connections.refresh()
            count = duty.run(mandate)
            if mandate.unfinished:
                self._due[duty.name] = 0.0
        except connection.Unavailable as lost:
            found.note(mandate, self._host, at, time.monotonic() - began, 0, connection.explain(lost))
            self._news = True
            raise
        except Deposed:
            raise
        except Exception as failed:
            error = f"{type(failed).__name__}: {failed}".strip()
            self._log(duty, found, failed, error)
            connections.refresh(close=isinstance(failed, Error))
        self._news |= bool(count or error or found.failing)
        found.note(mandate, self._host, at, time.monotonic() - began, count, error)

    @staticmethod
    def _log(duty: Duty, found: History, failed: Exception, error: str) -> None:
        if found.failing and found.error == error[:500]:
            return
        if isinstance(failed, Error):
            logger.warning("The duty %r failed: %s", duty.name, error)
        else:
            logger.error("The duty %r failed.", duty.name, exc_info=failed)
