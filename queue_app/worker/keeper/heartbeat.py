"""The heartbeat: the worker's lease and entry in Redis's list of workers, and its row in the record."""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
from typing import Any

from django.db import Error
from django.db.models.functions import Now

from queue_app import clock, conf, signals
from queue_app.dispatch import connection, workers
from queue_app.lifecycle import database
from queue_app.lifecycle.redis_breaker import breaker
from queue_app.lifecycle.store_health import explain
from queue_app.models import Worker
from queue_app.models.sql import write_alias
from queue_app.tasks import registry
from queue_app.worker.config import WorkerConfig

logger = logging.getLogger(__name__)

#: Seconds between two tries to send a heartbeat while Redis is away; jittered, so that workers are not in step.
RETRY_SECONDS = 0.5


class Heartbeat:
    """Registers one worker.

    The heartbeat has a thread of its own. A database that hangs, or the lock of a SQLite file, must not cost the lease.

    Args:
        config: of the worker.
        pid: of the worker's main process; None: the parent of this process.
    """

    def __init__(self, config: WorkerConfig, pid: int | None = None) -> None:
        self._config = config
        self._pid = os.getppid() if pid is None else pid
        self._row_written = False
        self._row_failed = False
        self._answered_at = 0.0
        self._beat_requested = threading.Event()
        self._leaving = False
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Start to send heartbeats. The first one is sent before this returns."""
        self._beat()
        self._thread.start()

    def beat_now(self) -> None:
        """Send a heartbeat at once, because Redis has forgotten this worker."""
        self._beat_requested.set()

    def _run(self) -> None:
        period = conf.get().LEASE / 5
        answered = True
        while not self._leaving:
            # Repeat a failed heartbeat soon: other processes take a worker without one for dead.
            self._beat_requested.wait(period if answered else RETRY_SECONDS * (0.5 + random.random()))
            self._beat_requested.clear()
            if not self._leaving:
                answered = self._beat()

    def _beat(self) -> bool:
        try:
            workers.beat(connection.client(), self._config.worker_id, self._config.queues.names)
            breaker.answered()
        except connection.Unavailable as error:
            breaker.failed(error)
            return False
        self._answered_at = clock.seconds()
        return True

    def write(self, last_claim: float, busy: bool) -> None:
        """Renew the row. A failure is logged once for each outage; the next call tries again.

        Args:
            last_claim: when a child could last claim, in epoch seconds.
            busy: whether all children are too busy to claim. Then the last answer of Redis counts as a claim.
        """
        if busy:
            last_claim = max(last_claim, self._answered_at)
        try:
            database.refresh()
            self._write(last_claim)
            self._row_failed = False
        except Error as error:
            say = logger.debug if self._row_failed else logger.warning
            say("The worker's row could not be written: %s", explain(error))
            self._row_failed = True
            database.refresh(close=True)

    def _write(self, last_claim: float) -> None:
        # By the clock of the database, because other hosts compare it with that clock (recover.reap).
        values: dict[str, Any] = {"heartbeat_at": Now(), "stopped_at": None}
        if last_claim:
            values["last_claim_at"] = clock.from_seconds(last_claim)
        rows = Worker.objects.using(write_alias())
        if self._row_written and rows.filter(pk=self._config.worker_id).update(**values):
            return
        rows.update_or_create(
            pk=self._config.worker_id,
            defaults=values,
            create_defaults={
                **values,
                "hostname": socket.gethostname(),
                "pid": self._pid,
                "queues": str(self._config.queues),
                "processes": self._config.processes,
                "slots": self._config.slots,
                "release": conf.get().RELEASE,
                "tasks": registry.known(),
            },
        )
        if not self._row_written:
            self._row_written = True
            signals.worker_started.send_robust(sender=None, worker_id=self._config.worker_id)

    def leave(self) -> None:
        """Record in both stores that the worker has stopped, as far as they are available."""
        self._leaving = True
        self._beat_requested.set()
        self._thread.join(timeout=1.0)  # Redis may hang; a heartbeat sent after this lasts for one lease
        try:
            workers.remove(connection.client(), self._config.worker_id)
        except connection.Unavailable as error:
            breaker.failed(error)
        try:
            database.refresh()
            Worker.objects.using(write_alias()).filter(pk=self._config.worker_id).update(
                stopped_at=clock.now()
            )
        except Error as error:
            logger.warning("The worker's row could not be written: %s", explain(error))
        signals.worker_stopped.send_robust(sender=None, worker_id=self._config.worker_id)
