"""A child: claims, runs, hands outcomes to its recorder, until it is told to stop or should be replaced."""

from __future__ import annotations

import gc
import logging
import random
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType

import redis
from django.db import Error

from queue_app import clock
from queue_app.dispatch import connection, queues, workers
from queue_app.dispatch.holder import Holder
from queue_app.lifecycle import claim as claiming
from queue_app.lifecycle import database
from queue_app.lifecycle.recovery import recover
from queue_app.lifecycle.redis_breaker import breaker
from queue_app.worker import title
from queue_app.worker.child.runner import Runner
from queue_app.worker.child.slots import MainThread, Threads
from queue_app.worker.config import WorkerConfig
from queue_app.worker.forking import resident_mb
from queue_app.worker.shared_state import SharedState

logger = logging.getLogger(__name__)

#: Seconds between two tries to claim while Redis is away: first, and at most; jittered.
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.05, 5.0
#: Seconds between two tries to claim after Redis lost its data, about.
DATA_LOST_PAUSE_SECONDS = 0.2


class _StopSignal(BaseException):
    """Ends a blocking wait when a signal arrives."""


class Child:
    """One child process.

    Args:
        index: its index in the shared state.
        serial: its number among all children that this worker ever had.
    """

    def __init__(self, config: WorkerConfig, shared: SharedState, index: int, serial: int) -> None:
        self._config = config
        self._shared = shared
        self._index = index
        self._holder = Holder(workers.holder(config.worker_id, serial))
        self._runner = Runner(config, shared, index, self._holder, self._is_stopping)
        self._stopping = False
        self._interruptible = False
        self._registered = False

    def run(self) -> int:
        """Work until told to stop, or until the child should be replaced.

        Returns:
            The exit code, 0.
        """
        signal.signal(signal.SIGTERM, self._handle_term)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # the supervisor held it back until now
        signal.signal(signal.SIGUSR1, self._handle_interrupt)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches the whole group
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        title.set_title(f"queue_app child {self._index} [{self._config.queues}]")
        # The recorder needs the interpreter's lock after every round trip: the default of 5 ms is too long for it.
        sys.setswitchinterval(0.001)
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)  # a claim makes thousands of short-lived objects: look less often
        database.begin()
        self._runner.recorder.start()
        slots: MainThread | Threads
        if self._config.slots == 1:
            slots = MainThread(self._runner, self._is_stopping)
        else:
            slots = Threads(self._runner, self._is_stopping, self._config.slots)
        self._shared.up(self._index, clock.seconds())
        self._serve(slots)
        self._runner.give_back()
        slots.stop()
        self._runner.stop()
        return 0

    def _is_stopping(self) -> bool:
        return self._stopping

    def _handle_term(self, signum: int, frame: FrameType | None) -> None:
        self._stopping = True
        if self._interruptible:
            self._interruptible = False  # TERM to the whole group comes twice: only the first may raise
            raise _StopSignal

    def _handle_interrupt(self, signum: int, frame: FrameType | None) -> None:
        """Sent by the keeper; the shared state says which jobs. Raises within the one that runs in this thread."""
        waiting, self._interruptible = self._interruptible, False  # no TERM shall break this off
        try:
            self._runner.interrupt()
        finally:
            self._interruptible = waiting and not self._stopping
        if waiting and self._stopping:
            raise _StopSignal

    def _serve(self, slots: MainThread | Threads) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self._done():
            if not self._runner.recorder.can_record.wait(1.0):
                continue  # the database is away: what was claimed now could not be recorded
            count = slots.capacity()
            if self._stopping:
                return
            try:
                claimed = self._claim(count)
            except connection.DataLost:
                # Of several queues, some may have been claimed from. Claims begin again within seconds.
                self._runner.claims.mark_unsure(self._config.queues.names)
                self._sleep(DATA_LOST_PAUSE_SECONDS * (0.5 + random.random()))
                continue
            except connection.Unavailable as error:
                breaker.failed(error)
                # What was claimed may have been lost on the way.
                self._runner.claims.mark_unsure(self._config.queues.names)
                self._sleep(pause * (0.5 + random.random()))
                pause = min(pause * 2, MAX_PAUSE_SECONDS)
                continue
            pause = FIRST_PAUSE_SECONDS
            breaker.answered()
            if claimed.deliveries:
                slots.run(claimed.deliveries)
            else:
                if slots.idle():
                    self._runner.recorder.rest()
                self._wait(claimed)

    def _done(self) -> bool:
        if self._stopping:
            return True
        if self._config.max_jobs is not None and self._runner.jobs >= self._config.max_jobs:
            return True
        return self._config.max_memory is not None and resident_mb() > self._config.max_memory

    def _claim(self, count: int) -> claiming.Claimed:
        client = connection.client()
        if not self._registered:
            workers.register(client, self._config.worker_id, self._config.queues.names)
            self._registered = True
        if self._config.max_jobs is not None:
            count = max(1, min(count, self._config.max_jobs - self._runner.jobs))
        claims = self._runner.claims
        self._runner.preflight.check_data_loss()
        with claims.lock:
            if claims.needs_reconcile:
                self._reconcile(client)
            recheck_count = self._runner.preflight.recheck_count
            set_aside = self._runner.unknown_tasks.claim_set_aside(client, count)
            claimed = claiming.claim(client, self._config.queues.order(), self._holder, count, set_aside)
            self._shared.claimed(self._index, clock.seconds(), self._runner.jobs)
            if any(d.number > 1 or d.args is None for d in claimed.deliveries):
                self._load_missing(claimed)
            if self._config.slots > 1:
                # Given up for dead, and given back by a reaper: what still runs here lets go of it when it has ended.
                running = self._runner.running
                claimed.deliveries = [d for d in claimed.deliveries if not running.has(d.id)]
            self._runner.add_claims(claimed.deliveries, recheck_count)
        return claimed

    def _reconcile(self, client: redis.Redis) -> None:
        try:
            database.refresh()
            self._runner.claims.reconcile(client)
        except Error as error:
            logger.warning("The database cannot be read (%s); what is held is looked at later.", error)
            database.refresh(close=True)

    def _load_missing(self, claimed: claiming.Claimed) -> None:
        client = connection.client()
        try:
            database.refresh()
            strange = [d for d in claimed.deliveries if d.unreadable]
            if strange:
                recover.give_up(client, self._holder, strange)
                claimed.deliveries = [d for d in claimed.deliveries if not d.unreadable]
            revoked = claiming.complete(claimed.deliveries)
        except Error as error:
            logger.warning("The database cannot be read (%s); what was claimed is given back.", error)
            database.refresh(close=True)
            self._runner.prefetch.extend(claimed.deliveries)
            self._runner.give_back()
            claimed.deliveries = []
            self._sleep(1.0)
            return
        for d in revoked:
            queues.settle(client, d.queue, self._holder, [d.id])
        claimed.deliveries = [d for d in claimed.deliveries if d not in revoked]

    def _wait(self, claimed: claiming.Claimed) -> None:
        """Block until a bell rings, the next delayed job is due, or 5 s have passed."""
        seconds = connection.LONGEST_WAIT
        if claimed.next_due is not None:
            seconds = min(seconds, claimed.next_due - claimed.at)
        if seconds < 0.001:
            return
        names = list(self._config.queues.names)
        client = connection.client(connection.LONGEST_WAIT + 10)  # a pool of its own: see below
        try:
            self._wait_interruptibly(lambda: queues.wait(client, names, seconds))
        except connection.Unavailable as error:
            breaker.failed(error)
        if self._stopping:
            # A token may have been taken just now: pass it on; the connection may be in the middle of an answer.
            try:
                client.connection_pool.disconnect()
                for name in names:
                    queues.ring(connection.client(), name)
            except connection.Unavailable as error:
                breaker.failed(error)

    def _sleep(self, seconds: float) -> None:
        self._wait_interruptibly(lambda: time.sleep(seconds))

    def _wait_interruptibly(self, wait: Callable[[], object]) -> None:
        """Wait, unless and until told to stop."""
        try:
            try:
                self._interruptible = True
                if not self._stopping:
                    wait()
            finally:
                self._interruptible = False
        except _StopSignal:
            self._interruptible = False  # the signal may have come within the `finally`
