"""`runworker --drain`: every due job, one at a time, in order, in this process; also those that its jobs enqueue.

It does not wait for later jobs or for retries. Made for test suites and one-off scripts; safe to start twice at once.
It is a worker to all others: a thread does what a keeper does for it, so that what it runs stays its own.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace

import redis
from django.db import connections

from queue_app import clock, conf
from queue_app.dispatch import connection, epochs, queues, workers
from queue_app.dispatch.holder import Holder
from queue_app.domain.delivery import Delivery
from queue_app.lifecycle import claim as claiming
from queue_app.lifecycle import push, release
from queue_app.lifecycle.recovery import rebuild, recover, sweep
from queue_app.maintenance.leader import Leader
from queue_app.maintenance.rebuild_redis import RebuildRedis
from queue_app.models import Worker
from queue_app.models.sql import write_alias
from queue_app.worker.child.runner import Runner
from queue_app.worker.config import WorkerConfig
from queue_app.worker.keeper.announcer import Announcer
from queue_app.worker.keeper.heartbeat import Heartbeat
from queue_app.worker.shared_state import SharedState

#: Seconds to wait for another leader to put back what Redis has lost; and between two looks.
STORE_WAIT_SECONDS, POLL_SECONDS = 10.0, 0.05

#: The number of its only child, which is this process.
SERIAL = 1


def drain(config: WorkerConfig) -> int:
    """Run what is due.

    Returns:
        How many jobs were run.

    Raises:
        Unavailable (see dispatch.connection): Redis was lost on the way; what was held comes back by itself.
    """
    config = replace(config, processes=1, slots=1)
    client = connection.client()
    holder = Holder(workers.holder(config.worker_id, SERIAL))
    shared = SharedState(1, 1)
    runner = Runner(config, shared, 0, holder)
    keeping = _Keeping(config, shared, runner)
    keeping.start()
    # Due by now: what becomes due while others run is not waited for, so that a drain has an end.
    until = clock.seconds()
    try:
        _put_in_order(client, config.worker_id)
        while True:
            told = runner.told
            taken = runner.unknown_tasks.take(client, 1)
            claimed = claiming.claim(client, config.queues.order(), holder, 1, taken)
            shared.claimed(0, clock.seconds(), runner.jobs)
            runner.take(claimed.deliveries, told)
            if not claimed.deliveries:
                break
            for delivery in claimed.deliveries:
                if delivery.unreadable:
                    recover.give_up(client, holder, [delivery])
                    continue
                gone = claiming.complete([delivery])
                if gone or (delivery.number > 1 and (delivery.run_after or 0) > until):
                    _put_off(client, holder, delivery, bool(gone))
                    continue
                runner.run_one(0, delivery)
                runner.recorder.flush()
    except connection.Unavailable:
        runner.claims.mark_unsure(config.queues.names)
        raise
    finally:
        try:
            runner.recorder.flush()
            if runner.claims.needs_reconcile:
                runner.claims.reconcile(client)
            for name in config.queues.names:
                if not workers.held(client, name, holder):  # else a worker takes it back after the lease
                    queues.unregister(client, name, holder)
        finally:
            keeping.end()
    push.redis_answered()
    return runner.jobs


def _put_in_order(client: redis.Redis, own_id: str) -> None:
    """What the leader does for workers. Where there are others, what they run is not known to be lost: a rebuild waits
    until they have announced it, and a burial right after Redis stood still would take it from them."""
    others = Worker.objects.using(write_alias()).living().exclude(pk=own_id).exists()
    if others:
        _wait_for_rebuild(client, own_id)
    else:
        rebuild.at_once(client)
    release.load_due(client)
    sweep.push_missing_backlog(client)
    if not others:
        recover.reap(client, own_id)


def _wait_for_rebuild(client: redis.Redis, own_id: str) -> None:
    """Wait until Redis has again what it lost. If no other process leads, this one does meanwhile."""
    leader = Leader(own_id, threading.Event(), duties=(RebuildRedis(),))
    deadline = time.monotonic() + STORE_WAIT_SECONDS
    try:
        while not all(e.phase == epochs.WHOLE and not e.lost for e in epochs.read(client).values()):
            if not leader.leads and time.monotonic() > deadline:
                return
            leader.step()
            time.sleep(POLL_SECONDS)
    finally:
        leader.resign()


def _put_off(client: redis.Redis, holder: str, delivery: Delivery, gone: bool) -> None:
    """A retry whose time came while draining waits for a real worker; a job whose row is gone is let go of."""
    later = [] if gone else [(delivery.id, clock.seconds() + 1.0, delivery.raw)]
    queues.settle(client, delivery.queue, holder, [delivery.id] if gone else [], later)


class _Keeping:
    """What its keeper, and the ticks of a child, do for a worker; in threads of this process."""

    def __init__(self, config: WorkerConfig, shared: SharedState, runner: Runner) -> None:
        self._shared = shared
        self._runner = runner
        self._heartbeat = Heartbeat(config, os.getpid())
        self._announcer = Announcer(config.worker_id, shared, lambda: {SERIAL: 0}, self._heartbeat.beat_now)
        self._ready, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        """Returns when others know of this worker, as far as the stores are there."""
        self._heartbeat.start()
        self._thread.start()
        self._ready.wait()

    def end(self) -> None:
        """It runs nothing any more."""
        self._stop.set()
        self._thread.join()
        self._heartbeat.leave()

    def _run(self) -> None:
        settings = conf.get()
        next_write = next_look = 0.0
        try:
            while not self._stop.is_set():
                now = time.monotonic()
                if now >= next_write:
                    self._heartbeat.write(self._shared.last_claim(0), self._shared.is_busy(0))
                    next_write = now + settings.LEASE / 4
                if now >= next_look:
                    next_look = now + self._announcer.check()
                self._runner.recorder.tick()
                self._ready.set()
                self._stop.wait(settings.LONG_JOB)
        finally:
            self._ready.set()
            connections.close_all()
