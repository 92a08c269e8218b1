"""`runworker --drain`: every due job, one at a time, in order, in this process; also those that its jobs enqueue.

It does not wait for later jobs or for retries. Made for test suites and one-off scripts; safe to start twice at once.
"""

from __future__ import annotations

import threading
import time

import redis

from queue_app import clock, conf
from queue_app.dispatch import connection, epochs, queues, workers
from queue_app.dispatch.body import Delivery
from queue_app.dispatch.holder import Holder
from queue_app.lifecycle import claim as claiming
from queue_app.lifecycle import dispatching, rebuild, recover, release
from queue_app.models import Worker
from queue_app.models.bulk import write_alias
from queue_app.worker.config import WorkerConfig
from queue_app.worker.runner import Runner
from queue_app.worker.shared import Board

#: Seconds to wait for the leader of living workers to put back what Redis has lost.
PATIENCE = 10.0


def drain(config: WorkerConfig) -> int:
    """Run what is due.

    Returns:
        How many jobs were run.

    Raises:
        Unavailable (see dispatch.connection): Redis was lost on the way; what was held comes back by itself.
    """
    client = connection.client()
    holder = Holder(workers.holder(config.worker_id, 1))
    runner = Runner(config, Board(1, 1), 0, holder)
    stop = threading.Event()
    keeping = threading.Thread(target=_keep, args=(config, stop), daemon=True)
    workers.beat(client, config.worker_id, config.queues.names)
    keeping.start()
    # Due by now: what becomes due while others run is not waited for, so that a drain has an end.
    until = clock.seconds()
    try:
        _put_in_order(client, config.worker_id)
        while True:
            taken = runner.strangers.take(client, 1)
            claimed = claiming.claim(client, config.queues.order(), holder, 1, taken)
            runner.hands.take(claimed.deliveries)
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
        runner.hands.doubt(config.queues.names)
        raise
    finally:
        stop.set()
        keeping.join()
        runner.recorder.flush()
        if runner.hands.doubtful:
            runner.hands.put_right(client)
        left = False
        for name in config.queues.names:
            if workers.held(client, name, holder):
                left = True  # a worker takes it back after the lease
            else:
                queues.discharge(client, name, holder)
        if not left:
            workers.remove(client, config.worker_id)
    dispatching.redis_answered()
    return runner.jobs


def _put_in_order(client: redis.Redis, own_id: str) -> None:
    """What the leader does for workers. Where there are any it is left to them: a rebuild before they have announced
    what they run, or a burial right after Redis stood still, would take their jobs from them."""
    others = Worker.objects.using(write_alias()).living().exists()
    deadline = time.monotonic() + PATIENCE
    while others and not epochs.all_open(client):
        if time.monotonic() > deadline:
            return
        time.sleep(0.1)
    if not others:
        rebuild.at_once(client)
    release.load_due(client)
    recover.sweep(client)
    if not others:
        recover.reap(client, own_id)


def _put_off(client: redis.Redis, holder: str, delivery: Delivery, gone: bool) -> None:
    """A retry whose time came while draining waits for a real worker; a job whose row is gone is let go of."""
    later = [] if gone else [(delivery.id, clock.seconds() + 1.0, delivery.raw)]
    queues.settle(client, delivery.queue, holder, [delivery.id] if gone else [], later)


def _keep(config: WorkerConfig, stop: threading.Event) -> None:
    while not stop.wait(conf.get().LEASE / 5):
        try:
            workers.beat(connection.client(), config.worker_id, config.queues.names)
        except connection.Unavailable as error:
            dispatching.redis_failed(error)
