"""The keeper: sends the worker's heartbeats (heartbeat.py), recovers the jobs of its dead children, and may lead.

It is a process of its own, so that a child that holds the interpreter's lock for a minute does not lose its jobs.
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
from queue_app.worker.pipes import Channel, ChildExited
from queue_app.worker.shared_state import SharedState

logger = logging.getLogger(__name__)

#: Seconds for which a stopping worker tries to recover its children while a store is away.
STOP_RECOVERY_SECONDS = 3.0
#: Seconds between two tries to recover a child while a store is away.
RECOVERY_RETRY_SECONDS = 0.5


class Keeper:
    """The keeper of one worker.

    Args:
        inbox, outbox: the channels from and to the supervisor.
    """

    def __init__(self, config: WorkerConfig, shared: SharedState, inbox: Channel, outbox: Channel) -> None:
        self._config = config
        self._shared = shared
        self._inbox = inbox
        self._outbox = outbox
        self._pids: dict[int, int] = {}  # serial → pid
        self._to_recover: list[ChildExited] = []
        self._finishing = False
        self._orphaned = False
        self._deadline = 0.0
        self._failing_since: float | None = None
        #: Whether the supervisor has listed all living children. What they run cannot be announced before.
        self._knows_children = False
        self._indexes: dict[int, int] = {}  # serial → index in the shared state
        self._heartbeat = Heartbeat(config)
        self._announcer = Announcer(config.worker_id, shared, self._living_indexes, self._heartbeat.beat_now)
        self._stop_duties = threading.Event()

    def run(self) -> int:
        """Run until told to finish, or until supervisor and children have exited.

        Returns:
            The exit code, 0.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # the supervisor tells it when to exit
        title.set_title(f"queue_app keeper [{self._config.queues}]")
        duties = threading.Thread(target=self._duties, name="maintenance", daemon=True)
        if self._config.maintenance:
            duties.start()
        interrupts = InterruptListener(self._config.worker_id, self._shared, self._children)
        threading.Thread(
            target=interrupts.run, args=(self._stop_duties,), name="interrupts", daemon=True
        ).start()
        period = conf.get().LEASE / 4
        next_write = next_check = 0.0
        self._heartbeat.start()
        while not self._is_done():
            now = time.monotonic()
            if now >= next_check and self._knows_children:
                pause = self._announcer.check()
                next_check = now + pause * (0.75 + random.random() / 4)  # not in step with other workers
            if now >= next_write:
                self._heartbeat.write(self._last_claim(), self._all_busy())
                next_write = now + period
            wake = min(next_write, next_check) if self._knows_children else now + CHECK_SECONDS
            self._listen(
                RECOVERY_RETRY_SECONDS
                if self._to_recover or self._orphaned
                else max(0.0, wake - time.monotonic())
            )
            self._recover_children()
        self._stop_duties.set()
        if duties.ident is not None:
            duties.join(timeout=5.0)
        self._heartbeat.leave()
        connections.close_all()
        return 0

    def _is_done(self) -> bool:
        if self._orphaned:
            return self._end_orphans()
        return self._finishing and not self._to_recover

    def _end_orphans(self) -> bool:
        """The supervisor has exited: kill its children after the grace, and recover what they ran.

        Returns:
            Whether all children are recovered.
        """
        for serial, pid in list(self._pids.items()):
            if is_alive(pid):
                if time.monotonic() >= self._deadline:
                    os.kill(pid, signal.SIGKILL)
                continue
            del self._pids[serial]
            index = self._indexes.get(serial)
            running = self._shared.running(index) if index is not None else []
            self._to_recover.append(
                ChildExited(
                    serial, "its supervisor died", {r.id: r.started_at for r in running}, blameless=True
                )
            )
        return not self._pids and not self._to_recover

    def _living_indexes(self) -> dict[int, int]:
        """The living children: serial → index in the shared state."""
        return {serial: index for serial, index in self._indexes.items() if serial in self._pids}

    def _children(self) -> dict[int, int]:
        """The living children: index in the shared state → pid. Called by another thread."""
        indexes = dict(self._indexes)
        return {indexes[serial]: pid for serial, pid in dict(self._pids).items() if serial in indexes}

    def _last_claim(self) -> float:
        return max((self._shared.last_claim(index) for index in range(self._config.processes)), default=0.0)

    def _all_busy(self) -> bool:
        """Whether no living child claims, because all its slots are busy or one job has to run alone in it."""
        indexes, slots = self._children(), self._config.slots
        return bool(indexes) and all(
            len(self._shared.running(index)) >= slots or self._shared.is_exclusive(index) for index in indexes
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
            logger.error("The supervisor has exited; its children may finish what they run within the grace.")
            self._orphaned = True
            self._deadline = time.monotonic() + self._config.grace
            return
        for message in messages:
            kind = message.pop("kind")
            if kind == "child_started":
                self._pids[message["serial"]] = message["pid"]
                self._indexes[message["serial"]] = message["index"]
            elif kind == "child_exited":
                self._pids.pop(message["serial"], None)
                self._indexes.pop(message["serial"], None)
                self._to_recover.append(ChildExited(**message))
            elif kind == "children_listed":
                self._knows_children = True
            elif kind == "finish":
                self._finishing = True

    def _recover_children(self) -> None:
        """Recover what exited children held. Repeated until both stores have done so."""
        for child in list(self._to_recover):
            holder = workers.holder(self._config.worker_id, child.serial)
            try:
                database.refresh()
                recover.take_back(
                    connection.client(),
                    holder,
                    self._config.queues.names,
                    self._config.worker_id,
                    cause_of(child),
                )
            except (Error, *connection.Unavailable) as error:
                self._defer_recovery(child, error)
                return
            self._failing_since = None
            self._to_recover.remove(child)
            if child.cause:
                signals.child_died.send_robust(
                    sender=None, worker_id=self._config.worker_id, cause=child.cause
                )
            if not self._orphaned:
                self._outbox.send("child_recovered", serial=child.serial)

    def _defer_recovery(self, child: ChildExited, error: BaseException) -> None:
        """Log a failed recovery once for each outage. A stopping worker soon leaves it to another one."""
        database.refresh(close=True)
        if self._failing_since is None:
            self._failing_since = time.monotonic()
            said = store_health.explain(error) if isinstance(error, Error) else connection.said(error)
            logger.warning("What child %d held cannot be taken back yet: %s", child.serial, said)
        elif self._finishing and time.monotonic() - self._failing_since > STOP_RECOVERY_SECONDS:
            logger.warning("Stopping without recovery: another worker will recover what was held.")
            self._to_recover.clear()

    def _duties(self) -> None:
        try:
            Leader(self._config.worker_id, self._stop_duties).run()
        finally:
            connections.close_all()
