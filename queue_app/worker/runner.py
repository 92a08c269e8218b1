"""The runner: takes deliveries through the executor to the recorder, and looks after those that run long."""

from __future__ import annotations

import logging
import os
import time

from queue_app import clock, conf
from queue_app.dispatch import connection, queues
from queue_app.dispatch.body import Delivery
from queue_app.lifecycle import dispatching, settle
from queue_app.models.bulk.rows import Start
from queue_app.worker import connections
from queue_app.worker.async_loop import AsyncLoop
from queue_app.worker.backlog import Backlog
from queue_app.worker.config import WorkerConfig
from queue_app.worker.executor import Executor, hard_limit, soft_limit
from queue_app.worker.recorder import Recorder
from queue_app.worker.shared import Board
from queue_app.worker.strangers import Strangers
from queue_app.worker.timeouts import ThreadTimer, in_main_thread

logger = logging.getLogger(__name__)


class Runner:
    """Runs the jobs of one child.

    Args:
        index: the child's place on the board.
        holder: the name under which it holds jobs.
    """

    def __init__(self, config: WorkerConfig, board: Board, index: int, holder: str) -> None:
        self.backlog = Backlog()
        self.recorder = Recorder(config.worker_id, holder, self._tick)
        self.jobs = 0
        self._config = config
        self._board = board
        self._index = index
        self._holder = holder
        self._loop = AsyncLoop()
        limiter = in_main_thread if config.slots == 1 else ThreadTimer().limit
        self._executor = Executor(config.worker_id, limiter, self._loop.run, self)
        #: What runs: slot → delivery and start. What its row says already: slot → id and progress.
        self._current: dict[int, tuple[Delivery, float]] = {}
        self._marked: dict[int, tuple[str, str | None]] = {}
        self._progress: dict[str, str] = {}
        self.strangers = Strangers(holder, config.queues.names)

    def run_one(self, slot: int, delivery: Delivery) -> None:
        """Run one delivery and hand its outcome to the recorder."""
        declared = self.strangers.resolve(delivery)
        if declared is None:
            return
        soft = soft_limit(declared, delivery)
        hard = hard_limit(declared, soft)
        now = clock.seconds()
        self._current[slot] = (delivery, now)
        self._board.start(
            self._index,
            slot,
            delivery.id,
            delivery.number,
            now,
            0.0 if hard is None else time.monotonic() + hard,
        )
        try:
            outcome = self._executor.execute(declared, delivery, soft, now)
            connections.tidy(delivery.task)
        finally:
            self._board.end(self._index, slot)
            self._current.pop(slot, None)
            self._marked.pop(slot, None)
        if self._progress:
            outcome.progress = self._progress.pop(delivery.id, None)
        self.jobs += 1
        self.recorder.put(outcome)

    def stop(self) -> None:
        """Give back what has not started, record what has ended."""
        self.give_back()
        self.recorder.stop()
        self._loop.stop()
        connections.refresh(close=True)

    def give_back(self) -> None:
        """Return what has not started to the front of its queue."""
        by_queue: dict[str, list[str]] = {}
        for delivery in self.backlog.surrender():
            by_queue.setdefault(delivery.queue, []).append(delivery.id)
        for queue, ids in by_queue.items():
            try:
                queues.give_back(connection.client(), queue, self._holder, ids)
            except connection.Unavailable as error:
                dispatching.redis_failed(error)  # the keeper takes them back when this child is gone

    def progress(self, delivery: Delivery, text: str) -> None:
        """Note an attempt's progress; the record learns of it at the next tick, or with the outcome."""
        self._progress[delivery.id] = text

    def _tick(self) -> None:
        """In the recorder's thread, while jobs run: say `running` of long ones, do not hoard behind them."""
        now = clock.seconds()
        limits = conf.get()
        starts = []
        long_ones = 0
        for slot, (delivery, started_at) in list(self._current.items()):
            ran = now - started_at
            long_ones += ran >= limits.LONG_JOB
            progress = self._progress.get(delivery.id)
            if ran >= limits.RUNNING_AFTER and self._marked.get(slot) != (delivery.id, progress):
                starts.append(Start(delivery.id, delivery.number, started_at, progress))
                self._marked[slot] = (delivery.id, progress)
        if long_ones >= self._config.slots:
            self.backlog.long_job()
            self.give_back()
        elif self.backlog.waited() >= limits.LONG_JOB:
            self.give_back()  # these jobs are slower than those by which the size of the claim was chosen
        if starts:
            try:
                settle.mark_running(starts, self._config.worker_id)
            except BaseException:
                self._marked.clear()  # the next tick tries again
                raise


def resident_mb() -> float:
    """Resident memory of this process in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
