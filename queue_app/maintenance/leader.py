"""The leader: one process at a time does the duties. When it dies, another one takes over within the lease."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Sequence

import redis
from django.db import Error

from queue_app import clock, conf
from queue_app.dispatch import connection, workers
from queue_app.exceptions import LeadershipLost
from queue_app.lifecycle import database, tokens
from queue_app.lifecycle.redis_breaker import breaker
from queue_app.lifecycle.store_health import is_outage
from queue_app.maintenance import history
from queue_app.maintenance.duty import Duty
from queue_app.maintenance.duty_list import DUTIES
from queue_app.maintenance.history import History
from queue_app.maintenance.leader_term import LeaderTerm, term_seconds

logger = logging.getLogger(__name__)

#: Seconds between two checks of the leader whether a duty is due; less when the lease is very short.
DUE_CHECK_SECONDS = 1.0
#: Seconds until the leader goes on with a duty that touched something and has work left, and with a rebuild.
CONTINUE_SECONDS = 0.05
#: Seconds after which a duty is repeated that Redis refused.
REFUSED_RETRY_SECONDS = 1.0
#: Seconds within which a process that has started asks to lead.
FIRST_ELECTION_SECONDS = 0.5
#: Seconds between two writes of histories while the duties have nothing to do.
IDLE_WRITE_SECONDS = 5.0


class Leader:
    """Asks to lead, and does the duties while it leads.

    Args:
        leader_id: a worker's id, or one made for `runmaintenance`.
        stop: set when this process is to end; a duty is then left in the middle.
        changed: called with the token when this process begins to lead, and with 0 when it no longer leads.
        duties: what there is to do, in this order; by default one new object of each class in `DUTIES`.
    """

    def __init__(
        self,
        leader_id: str,
        stop: threading.Event,
        changed: Callable[[int], None] | None = None,
        duties: Sequence[Duty] | None = None,
    ) -> None:
        self._id = leader_id
        self._host = f"{socket.gethostname()}:{os.getpid()}"
        self._stop = stop
        self._changed = changed or (lambda token: None)
        self._duties = tuple(duty() for duty in DUTIES) if duties is None else tuple(duties)
        self._urgent = tuple(duty for duty in self._duties if duty.urgent)
        self._due: dict[str, float] = {}  # name of a duty → when it is due (monotonic)
        self._histories: dict[str, History] = {}
        self._token = 0  # 0: this process does not lead
        self._unwritten: set[str] = set()  # duties with runs that are not in Redis yet
        self._write_now = False
        self._has_more = False  # a duty has work left and goes on at once
        self._write_at = 0.0

    def run(self) -> None:
        """Ask to lead, and do the duties while leading, until told to stop."""
        pause = (
            FIRST_ELECTION_SECONDS * random.random()
        )  # else all workers of a deployment ask in the same moment
        while not self._stop.wait(pause):
            self._has_more = False
            try:
                self.step()
            except connection.Unavailable as error:
                breaker.failed(error)
            except Error as error:
                # Only for debugging: the heartbeat logs that the database is away.
                logger.debug("The leadership cannot be taken: %s", error)
                database.refresh(close=True)
            except Exception:
                logger.exception("Leading failed.")
            pause = self._pause()
        self.resign()

    def resign(self) -> None:
        """If this process leads, let another one lead at once."""
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
        return CONTINUE_SECONDS if self._has_more else min(DUE_CHECK_SECONDS, often)

    def step(self) -> None:
        """Renew the leadership, or ask for it; do what is due.

        Raises:
            Unavailable (see dispatch.connection): Redis is away.
        """
        client = connection.client()
        term = self._renew_or_take(client)
        if term is None:
            return
        try:
            for duty in self._duties:
                term.keep_alive()
                for one in (*self._urgent, duty):
                    if time.monotonic() >= self._due.get(one.name, 0.0):
                        self._do(one, term)
        except LeadershipLost:
            if self._stop.is_set():
                return
            logger.warning("%s", LeadershipLost())
            self._step_down()
            return  # the new leader writes the histories
        self._write(client)

    def _write(self, client: redis.Redis) -> None:
        """Write the histories: at once if a duty did something or failed, else every few seconds."""
        now = time.monotonic()
        if self._write_now or now >= self._write_at:
            with contextlib.suppress(connection.Full):  # the next write has it
                history.write(client, self._histories, self._unwritten)
            self._unwritten.clear()
            self._write_now, self._write_at = False, now + IDLE_WRITE_SECONDS

    def _renew_or_take(self, client: redis.Redis) -> LeaderTerm | None:
        """Stay the leader, or become it if no other process leads. Returns the term, or None."""
        if self._token:
            term = LeaderTerm(client, self._id, self._token, self._stop)
            try:
                term.check()
                return term
            except LeadershipLost:
                if self._stop.is_set():
                    return None
                self._step_down()
        return self._take(client)

    def _take(self, client: redis.Redis) -> LeaderTerm | None:
        leader = workers.leader(client)
        if leader is not None and leader[0] != self._id:
            return None
        database.refresh()
        token = tokens.next_token()
        if not workers.lead(client, self._id, term_seconds(), token):
            return None
        # All duties are due. Histories that only this process has are of a time before Redis lost its data.
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
        """Run a duty once. An error is written to its history, and logged if it is new. The other duties go on, unless
        Redis is away.

        Raises:
            LeadershipLost: the leadership turned out to be over.
            Unavailable (see dispatch.connection): Redis is away.
        """
        past = self._histories.setdefault(duty.name, History())
        self._unwritten.add(duty.name)
        at, began, count, error = clock.seconds(), time.monotonic(), 0, ""
        term.begin_run()
        self._due[duty.name] = began + duty.interval + duty.jitter() * random.random()
        try:
            database.refresh()
            count = duty.run(term)
            if term.unfinished:
                self._due[duty.name] = 0.0
                self._has_more |= count > 0 or duty.urgent
        except (connection.DataLost, connection.Full) as refused:
            # Redis answers. The duty goes on after the rebuild, or when memory is free again.
            error = connection.explain(refused)
            self._has_more |= isinstance(refused, connection.DataLost)
            self._due[duty.name] = min(self._due[duty.name], began + REFUSED_RETRY_SECONDS)
        except connection.Unavailable as away:
            error = connection.explain_publicly(away)  # the API shows it
            past.add_run(term, self._host, at, time.monotonic() - began, 0, error)
            self._write_now = True
            raise
        except LeadershipLost:
            raise
        except Exception as failed:
            error = f"{type(failed).__name__}: {failed}".strip()
            self._log(duty, past, failed, error)
            database.refresh(close=isinstance(failed, Error))
        self._write_now |= bool(count or error or past.failing)
        past.add_run(term, self._host, at, time.monotonic() - began, count, error)

    @staticmethod
    def _log(duty: Duty, past: History, failed: Exception, error: str) -> None:
        if past.failing and past.error == error[:500]:
            return
        if is_outage(failed):
            logger.warning("The duty %r failed: %s", duty.name, error)
        else:
            logger.error("The duty %r failed.", duty.name, exc_info=failed)
