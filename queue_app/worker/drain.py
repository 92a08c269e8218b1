"""`runworker --drain`: runs every due job in this process, one at a time and in order, then returns.

This includes jobs that its jobs enqueue, but neither later jobs nor retries. It is made for test suites and one-off
scripts. Two drains may run at once. To other processes a drain is a worker: a thread does what a keeper does, so that
no other process takes its jobs over.
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
from queue_app.lifecycle import release
from queue_app.lifecycle.recovery import rebuild, recover, sweep
from queue_app.lifecycle.redis_breaker import breaker
from queue_app.maintenance.leader import Leader
from queue_app.maintenance.rebuild_redis import RebuildRedis
from queue_app.models import Worker
from queue_app.models.sql import write_alias
from queue_app.worker.child.runner import Runner
from queue_app.worker.config import WorkerConfig
from queue_app.worker.keeper.announcer import Announcer
from queue_app.worker.keeper.heartbeat import Heartbeat
from queue_app.worker.shared_state import SharedState

#: Seconds to wait for another leader to rebuild what Redis has lost; and between two looks.
STORE_WAIT_SECONDS, POLL_SECONDS = 10.0, 0.05

#: Serial of the only child, which is this process.
SERIAL = 1


def drain(config: WorkerConfig) -> int:
    """Run what is due.

    Args:
        config: processes and slots are ignored.

    Returns:
        How many jobs were run.

    Raises:
        Unavailable (see dispatch.connection): Redis failed meanwhile. Jobs that were held go back to their queues after
            the lease.
    """
    config = replace(config, processes=1, slots=1)
    client = connection.client()
    holder = Holder(workers.holder(config.worker_id, SERIAL))
    shared = SharedState(1, 1)
    runner = Runner(config, shared, 0, holder)
    keeper = _KeeperThread(config, shared, runner)
    keeper.start()
    # Retries that become due later are left out, so that a drain has an end.
    until = clock.seconds()
    try:
        _prepare_stores(client, config.worker_id)
        while True:
            recheck_count = runner.preflight.recheck_count
            set_aside = runner.unknown_tasks.claim_set_aside(client, 1)
            claimed = claiming.claim(client, config.queues.order(), holder, 1, set_aside)
            shared.claimed(0, clock.seconds(), runner.jobs)
            runner.add_claims(claimed.deliveries, recheck_count)
            if not claimed.deliveries:
                break
            for delivery in claimed.deliveries:
                if delivery.unreadable:
                    recover.give_up(client, holder, [delivery])
                    continue
                gone = claiming.complete([delivery])
                if gone or (delivery.number > 1 and (delivery.run_after or 0) > until):
                    _release(client, holder, delivery, bool(gone))
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
                if not workers.held(client, name, holder):  # else another worker recovers it after the lease
                    queues.unregister(client, name, holder)
        finally:
            keeper.end()
    breaker.answered()
    return runner.jobs


def _prepare_stores(client: redis.Redis, own_id: str) -> None:
    """Do what a leader would do first: rebuild lost data, load what is due, recover what was lost.

    If other workers live, the rebuild must wait until they have announced what they run. Nor are dead workers recovered
    then: right after Redis stood still, the living ones look dead as well.
    """
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


def _release(client: redis.Redis, holder: str, delivery: Delivery, gone: bool) -> None:
    """Release a job that is not run: a retry that became due during the drain is left to a real worker, and a job whose
    row is gone is dropped."""
    later = [] if gone else [(delivery.id, clock.seconds() + 1.0, delivery.raw)]
    queues.settle(client, delivery.queue, holder, [delivery.id] if gone else [], later)


class _KeeperThread:
    """Does in threads of this process what a keeper and a recorder's ticks do for a worker."""

    def __init__(self, config: WorkerConfig, shared: SharedState, runner: Runner) -> None:
        self._shared = shared
        self._runner = runner
        self._heartbeat = Heartbeat(config, os.getpid())
        self._announcer = Announcer(config.worker_id, shared, lambda: {SERIAL: 0}, self._heartbeat.beat_now)
        self._ready, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        """Start, and return when other processes know of this worker, as far as the stores are available."""
        self._heartbeat.start()
        self._thread.start()
        self._ready.wait()

    def end(self) -> None:
        """Stop; the worker runs nothing any more."""
        self._stop.set()
        self._thread.join()
        self._heartbeat.leave()

    def _run(self) -> None:
        settings = conf.get()
        next_write = next_check = 0.0
        try:
            while not self._stop.is_set():
                now = time.monotonic()
                if now >= next_write:
                    self._heartbeat.write(self._shared.last_claim(0), self._shared.is_busy(0))
                    next_write = now + settings.LEASE / 4
                if now >= next_check:
                    next_check = now + self._announcer.check()
                self._runner.recorder.tick()
                self._ready.set()
                self._stop.wait(settings.LONG_JOB)
        finally:
            self._ready.set()
            connections.close_all()
