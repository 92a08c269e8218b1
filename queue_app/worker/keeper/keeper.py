"""The keeper: the worker's row and heartbeat (see registrar.py), and the burial of its dead children.

A process of its own, so that a child that holds the interpreter's lock for a minute does not lose its jobs.
"""

from __future__ import annotations

import logging
import os
import random
import select
import signal
import threading
import time

from django.db import Error, connections

from queue_app import conf, signals
from queue_app.dispatch import connection, workers
from queue_app.lifecycle import database, store_health
from queue_app.lifecycle.recovery import recover
from queue_app.maintenance.leader import Leader
from queue_app.worker import title
from queue_app.worker.config import WorkerConfig
from queue_app.worker.forking import is_alive
from queue_app.worker.keeper.announcer import CHECK_SECONDS, Announcer
from queue_app.worker.keeper.heartbeat import Heartbeat
from queue_app.worker.keeper.interrupt_listener import InterruptListener
from queue_app.worker.keeper.verdicts import cause_of
from queue_app.worker.pipes import Channel, Death
from queue_app.worker.shared_state import SharedState

logger = logging.getLogger(__name__)

#: Seconds that a stopping worker tries to bury its dead while a store is away.
STOP_RECOVERY_SECONDS = 3.0
#: Seconds between two tries to bury a child while a store is away.
RECOVERY_RETRY_SECONDS = 0.5


class Keeper:
    """The keeper of one worker.

    Args:
        inbox, outbox: the lines from and to the supervisor.
    """

    def __init__(self, config: WorkerConfig, shared: SharedState, inbox: Channel, outbox: Channel) -> None:
        self._config = config
        self._shared = shared
        self._inbox = inbox
        self._outbox = outbox
        self._living: dict[int, int] = {}  # serial → pid
        self._dead: list[Death] = []
        self._finish = False
        self._orphaned = False
        self._deadline = 0.0
        self._unable_since: float | None = None
        #: Whether the supervisor has named all living children. What they run cannot be announced before.
        self._knows_children = False
        self._places: dict[int, int] = {}  # serial → place on the board
        self._heartbeat = Heartbeat(config)
        self._announcer = Announcer(config.worker_id, shared, self._living_places, self._heartbeat.beat_now)
        self._stop_duties = threading.Event()

    def run(self) -> int:
        """Keep until told to finish, or until supervisor and children are gone.

        Returns:
            The exit code, 0.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # the supervisor says when
        title.set_title(f"queue_app keeper [{self._config.queues}]")
        duties = threading.Thread(target=self._duties, name="maintenance", daemon=True)
        if self._config.maintenance:
            duties.start()
        cancels = InterruptListener(self._config.worker_id, self._shared, self._children)
        threading.Thread(target=cancels.run, args=(self._stop_duties,), name="cancels", daemon=True).start()
        period = conf.get().LEASE / 4
        next_write = next_look = 0.0
        self._heartbeat.start()
        while not self._over():
            now = time.monotonic()
            if now >= next_look and self._knows_children:
                pause = self._announcer.check()
                next_look = now + pause * (0.75 + random.random() / 4)  # not in step with other workers
            if now >= next_write:
                self._heartbeat.write(self._last_claim(), self._all_busy())
                next_write = now + period
            wake = min(next_write, next_look) if self._knows_children else now + CHECK_SECONDS
            self._listen(
                RECOVERY_RETRY_SECONDS if self._dead or self._orphaned else max(0.0, wake - time.monotonic())
            )
            self._recover_children()
        self._stop_duties.set()
        if duties.ident is not None:
            duties.join(timeout=5.0)
        self._heartbeat.leave()
        connections.close_all()
        return 0

    def _over(self) -> bool:
        if self._orphaned:
            return self._outlived()
        return self._finish and not self._dead

    def _outlived(self) -> bool:
        """The supervisor is gone, so that nobody else can end its children: after the grace they are killed, and
        what they ran is taken back."""
        for serial, pid in list(self._living.items()):
            if is_alive(pid):
                if time.monotonic() >= self._deadline:
                    os.kill(pid, signal.SIGKILL)
                continue
            del self._living[serial]
            place = self._places.get(serial)
            running = self._shared.running(place) if place is not None else []
            self._dead.append(
                Death(serial, "its supervisor died", {r.id: r.started_at for r in running}, blameless=True)
            )
        return not self._living and not self._dead

    def _living_places(self) -> dict[int, int]:
        """The living children: serial → place on the board."""
        return {serial: place for serial, place in self._places.items() if serial in self._living}

    def _children(self) -> dict[int, int]:
        """The living children: place on the board → pid. Asked by another thread."""
        places = dict(self._places)
        return {places[serial]: pid for serial, pid in dict(self._living).items() if serial in places}

    def _last_claim(self) -> float:
        return max((self._shared.last_claim(index) for index in range(self._config.processes)), default=0.0)

    def _all_busy(self) -> bool:
        """Whether every living child has a job in each of its slots, or one that is to run alone: so it does not claim,
        and need not."""
        places, slots = self._children(), self._config.slots
        return bool(places) and all(
            len(self._shared.running(place)) >= slots or self._shared.is_exclusive(place) for place in places
        )

    def _listen(self, seconds: float) -> None:
        if self._orphaned:
            time.sleep(seconds)
            return
        ready, _, _ = select.select([self._inbox.fd], [], [], seconds)
        if not ready:
            return
        messages = self._inbox.receive()
        if messages is None:
            logger.error("The supervisor is gone; its children are left to end what they run.")
            self._orphaned = True
            self._deadline = time.monotonic() + self._config.grace
            return
        for message in messages:
            kind = message.pop("kind")
            if kind == "birth":
                self._living[message["serial"]] = message["pid"]
                self._places[message["serial"]] = message["place"]
            elif kind == "death":
                self._living.pop(message["serial"], None)
                self._places.pop(message["serial"], None)
                self._dead.append(Death(**message))
            elif kind == "complete":
                self._knows_children = True
            elif kind == "finish":
                self._finish = True

    def _recover_children(self) -> None:
        """Take back what dead children held; repeated until both stores have agreed."""
        for death in list(self._dead):
            holder = workers.holder(self._config.worker_id, death.serial)
            try:
                database.refresh()
                recover.take_back(
                    connection.client(),
                    holder,
                    self._config.queues.names,
                    self._config.worker_id,
                    cause_of(death),
                )
            except (Error, *connection.Unavailable) as error:
                self._defer_recovery(death, error)
                return
            self._unable_since = None
            self._dead.remove(death)
            if death.cause:
                signals.child_died.send_robust(
                    sender=None, worker_id=self._config.worker_id, cause=death.cause
                )
            if not self._orphaned:
                self._outbox.send("buried", serial=death.serial)

    def _defer_recovery(self, death: Death, error: BaseException) -> None:
        """Said once for each outage. A worker that has to stop does not wait long: another one takes back."""
        database.refresh(close=True)
        if self._unable_since is None:
            self._unable_since = time.monotonic()
            said = store_health.explain(error) if isinstance(error, Error) else connection.said(error)
            logger.warning("What child %d held cannot be taken back yet: %s", death.serial, said)
        elif self._finish and time.monotonic() - self._unable_since > STOP_RECOVERY_SECONDS:
            logger.warning("Stopping all the same: another worker will take back what was held.")
            self._dead.clear()

    def _duties(self) -> None:
        try:
            Leader(self._config.worker_id, self._stop_duties).run()
        finally:
            connections.close_all()
