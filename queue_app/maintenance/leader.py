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
from queue_app.exceptions import LeadershipLost
from queue_app.lifecycle import database, tokens
from queue_app.lifecycle.redis_breaker import breaker
from queue_app.lifecycle.store_health import is_outage
from queue_app.maintenance import (
    enqueue_ticks,
    history,
    load_due,
    prune_record,
    reap_workers,
    rebuild_redis,
    retry_cancels,
    sample_queues,
    summarize,
    sweep_new,
    verify_redis,
)
from queue_app.maintenance.duty import Duty, LeaderTerm, term_seconds
from queue_app.maintenance.history import History

logger = logging.getLogger(__name__)

DUTIES: tuple[Duty, ...] = (
    rebuild_redis.REBUILD,  # before anything is promoted
    reap_workers.REAP,
    retry_cancels.CANCEL,
    enqueue_ticks.TICK,
    load_due.LOAD,
    load_due.PROMOTE,
    sweep_new.SWEEP,
    sweep_new.BACKLOG,
    sweep_new.ORPHANS,
    verify_redis.AUDIT,
    sample_queues.STATS,
    prune_record.PRUNE,
    summarize.SUMMARIZE,
)

#: Seconds between two looks of the leader at whether something is due; fewer when the lease is very short.
DUE_CHECK_SECONDS = 1.0
#: Seconds until the leader goes on with a duty that has done something, and has more to do than its time allows; and in
#: the midst of a rebuild.
CONTINUE_SECONDS = 0.05
#: Seconds after which a duty is done again that Redis refused.
REFUSED_RETRY_SECONDS = 1.0
#: Seconds within which a process that has started seeks to lead.
FIRST_ELECTION_SECONDS = 0.5
#: Seconds between two notes of runs in which there was nothing to do.
IDLE_WRITE_SECONDS = 5.0


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
        self._urgent = tuple(duty for duty in duties if duty.urgent)
        self._due: dict[str, float] = {}
        self._histories: dict[str, History] = {}
        self._token = 0
        self._unwritten: set[str] = set()
        self._news = False
        self._more = False
        self._write_at = 0.0

    def run(self) -> None:
        """Seek to lead, and do the duties, until told to stop."""
        pause = FIRST_ELECTION_SECONDS * random.random()  # not all workers of a deployment in the same moment
        while not self._stop.wait(pause):
            self._more = False
            try:
                self.step()
            except connection.Unavailable as error:
                breaker.failed(error)
            except Error as error:
                logger.debug(
                    "The leadership cannot be taken: %s", error
                )  # the heartbeat says that the database is away
                database.refresh(close=True)
            except Exception:
                logger.exception("Leading failed.")
            pause = self._pause()
        self.resign()

    def resign(self) -> None:
        """Let another process lead at once, if this one does."""
        if self._token:
            with contextlib.suppress(*connection.Unavailable):  # the leadership ends by itself
                workers.resign(connection.client(), self._id, self._token)
            self._step_down()

    @property
    def leads(self) -> bool:
        """Whether this process led at the last step."""
        return bool(self._token)

    def _pause(self) -> float:
        often = conf.get().LEASE / 5
        if not self._token:
            return often * (0.75 + random.random() / 2)
        return CONTINUE_SECONDS if self._more else min(DUE_CHECK_SECONDS, often)

    def step(self) -> None:
        """Renew the leadership, or seek it; do what is due.

        Raises:
            Unavailable (see dispatch.connection): Redis is away.
        """
        client = connection.client()
        term = self._renew_or_seek(client)
        if term is None:
            return
        try:
            for duty in self._duties:
                term.keep()
                for one in (*self._urgent, duty):
                    if time.monotonic() >= self._due.get(one.name, 0.0):
                        self._do(one, term)
        except LeadershipLost:
            if self._stop.is_set():
                return
            logger.warning("%s", LeadershipLost())
            self._step_down()
            return  # what is known of the duties is for the new leader to write
        self._write(client)

    def _write(self, client: redis.Redis) -> None:
        """Keep what was done; runs in which there was nothing to do are kept together, every few seconds."""
        now = time.monotonic()
        if self._news or now >= self._write_at:
            with contextlib.suppress(connection.Full):  # the next time tells
                history.write(client, self._histories, self._unwritten)
            self._unwritten.clear()
            self._news, self._write_at = False, now + IDLE_WRITE_SECONDS

    def _renew_or_seek(self, client: redis.Redis) -> LeaderTerm | None:
        """Stay the leader, or become it if no other process leads: the mandate, if so."""
        if self._token:
            term = LeaderTerm(client, self._id, self._token, self._stop)
            try:
                term.check()
                return term
            except LeadershipLost:
                if self._stop.is_set():
                    return None
                self._step_down()
        return self._begin(client)

    def _begin(self, client: redis.Redis) -> LeaderTerm | None:
        leader = workers.leader(client)
        if leader is not None and leader[0] != self._id:
            return None
        database.refresh()
        token = tokens.next_token()
        if not workers.lead(client, self._id, term_seconds(), token):
            return None
        # The duties go on where the leader before left off, and are all due. What is known here besides is of a time
        # before Redis lost its data.
        self._histories |= history.read(client)
        self._due.clear()
        self._unwritten.clear()
        self._write_at = 0.0
        self._token = token
        self._changed(token)
        return LeaderTerm(client, self._id, token, self._stop)

    def _step_down(self) -> None:
        self._token = 0
        self._changed(0)

    def _do(self, duty: Duty, term: LeaderTerm) -> None:
        """One run. What goes wrong is kept with the duty, and logged when it is new; the other duties go on unless
        Redis is away.

        Raises:
            Deposed: in the middle of it, the leadership was found to be over.
            Unavailable (see dispatch.connection): Redis is away.
        """
        found = self._histories.setdefault(duty.name, History())
        self._unwritten.add(duty.name)
        at, began, count, error = clock.seconds(), time.monotonic(), 0, ""
        term.begin()
        self._due[duty.name] = began + duty.interval + duty.jitter * random.random()
        try:
            database.refresh()
            count = duty.run(term)
            if term.unfinished:
                self._due[duty.name] = 0.0
                self._more |= count > 0 or duty.urgent
        except (connection.DataLost, connection.Full) as refused:
            # Redis answers. The rebuild comes first, or memory must be freed; the duty goes on after that.
            error = connection.explain(refused)
            self._more |= isinstance(refused, connection.DataLost)
            self._due[duty.name] = min(self._due[duty.name], began + REFUSED_RETRY_SECONDS)
        except connection.Unavailable as lost:
            said = connection.explain_publicly(lost)  # the API shows it
            found.note(term, self._host, at, time.monotonic() - began, 0, said)
            self._news = True
            raise
        except LeadershipLost:
            raise
        except Exception as failed:
            error = f"{type(failed).__name__}: {failed}".strip()
            self._log(duty, found, failed, error)
            database.refresh(close=isinstance(failed, Error))
        self._news |= bool(count or error or found.failing)
        found.note(term, self._host, at, time.monotonic() - began, count, error)

    @staticmethod
    def _log(duty: Duty, found: History, failed: Exception, error: str) -> None:
        if found.failing and found.error == error[:500]:
            return
        if is_outage(failed):
            logger.warning("The duty %r failed: %s", duty.name, error)
        else:
            logger.error("The duty %r failed.", duty.name, exc_info=failed)
