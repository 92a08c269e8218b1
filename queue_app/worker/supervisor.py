"""The supervisor: forks children and the keeper, reaps them, and kills children that exceed a limit.

It has no threads, so that forking is safe. It uses no store, so that nothing blocks it.

Signals: TERM and INT drain the worker; a second one, or QUIT, kills what runs; HUP replaces the children one by one.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
import time
from collections.abc import Callable
from types import FrameType

from queue_app.worker import title
from queue_app.worker.child.child import Child
from queue_app.worker.child_slot import ChildSlot
from queue_app.worker.config import WorkerConfig
from queue_app.worker.forking import explain, fork
from queue_app.worker.keeper_process import KeeperProcess
from queue_app.worker.pipes import ChildStarted
from queue_app.worker.shared_state import SharedState

logger = logging.getLogger(__name__)

#: Seconds between two checks of time limits: while jobs run, and while none does.
POLL_SECONDS, IDLE_POLL_SECONDS = 0.2, 0.5
#: Seconds that the keeper has to recover the last children once all have exited; and between two looks at it.
RECOVERY_TIMEOUT_SECONDS, RECOVERY_POLL_SECONDS = 20.0, 0.02


class Supervisor:
    """One worker.

    Args:
        config: the worker's options, checked.
        say: prints a line for people.
    """

    def __init__(self, config: WorkerConfig, say: Callable[[str], None]) -> None:
        self._config = config
        self._say = say
        self._shared = SharedState(config.processes, config.slots)
        self._children = [ChildSlot(index) for index in range(config.processes)]
        self._keeper = KeeperProcess(config, self._shared)
        self._serial = 0
        self._signals: list[int] = []
        self._stopping = False
        self._deadline = 0.0
        self._hurried = False
        #: Indexes of children that a rolling restart still has to replace.
        self._to_replace: list[int] = []
        self._announced = False

    def run(self) -> int:
        """Work until told to stop.

        Returns:
            The exit code.
        """
        title.set_title(f"queue_app worker [{self._config.queues}]")
        read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, self._remember_signal)
        gc.freeze()  # what is loaded now stays shared with the children
        self._keeper.start(self._living())
        while True:
            self._handle_signals()
            self._reap()
            self._enforce_limits()
            if self._stopping:
                if not any(child.pid for child in self._children):
                    break
                self._kill_overdue()
            else:
                self._spawn_missing()
                self._rolling_restart()
            self._announce_ready()
            self._wait(read)
        return self._finish()

    # signals: the handler only remembers them, the loop acts

    def _remember_signal(self, signum: int, frame: FrameType | None) -> None:
        self._signals.append(signum)

    def _handle_signals(self) -> None:
        signals, self._signals = self._signals, []
        for signum in signals:
            if signum in (signal.SIGTERM, signal.SIGINT):
                if self._stopping:
                    self._hurried = True
                else:
                    self._say(
                        f"stopping: running jobs get up to {self._config.grace:g} s; once more to hurry"
                    )
                    self._stop_children()
            elif signum == signal.SIGQUIT:
                self._stop_children()
                self._hurried = True
            elif signum == signal.SIGHUP and not self._stopping:
                self._say("replacing the children one by one")
                self._to_replace = [c.index for c in self._children if c.index not in self._to_replace]

    def _stop_children(self) -> None:
        self._stopping = True
        self._deadline = time.monotonic() + self._config.grace
        for child in self._children:
            child.kill(signal.SIGTERM)

    def _kill_overdue(self) -> None:
        """Kill what has not ended within the grace. The keeper requeues its jobs without blame."""
        if self._hurried or time.monotonic() >= self._deadline:
            for child in self._children:
                child.stop_requested = True
                child.kill(signal.SIGKILL)

    # children

    def _living(self) -> list[ChildStarted]:
        return [child.started() for child in self._children if child.pid]

    def _spawn_missing(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if not child.pid and now >= child.start_after:
                self._start_child(child)

    def _start_child(self, child: ChildSlot) -> None:
        self._serial += 1
        self._shared.clear(child.index)
        child.prepare(self._serial)
        child.pid = fork(
            lambda: Child(self._config, self._shared, child.index, child.serial).run(),
            close=self._keeper.channels,
            bound=True,
        )
        self._keeper.child_started(child.started())

    def _rolling_restart(self) -> None:
        """Tell the next child to stop. This waits until all are up, including the successor of the one before."""
        if not self._to_replace:
            return
        if any(not c.pid or c.leaving or not self._shared.is_up(c.index) for c in self._children):
            return
        child = self._children[self._to_replace.pop(0)]
        child.kill(signal.SIGTERM)
        child.leaving = True

    def _enforce_limits(self) -> None:
        """Kill the children with a job that exceeds a limit."""
        now = time.monotonic()
        for child in self._children:
            if not child.pid or child.stop_requested:
                continue
            if child.exceeds_limits(self._shared.running(child.index), now):
                child.kill(signal.SIGKILL)

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._keeper.pid:
                self._keeper.replace(status, self._living())
                continue
            for child in self._children:
                if child.pid == pid:
                    self._child_exited(child, explain(status, usage.ru_maxrss / 1024))

    def _child_exited(self, child: ChildSlot, cause: str) -> None:
        pid, running = child.pid, self._shared.running(child.index)
        message = child.exited(cause, running)
        if cause and not message.blameless:
            logger.error(
                "Child %d (pid %d) died: %s; %d jobs were running.", child.index, pid, cause, len(running)
            )
        self._keeper.child_exited(message)

    # waiting

    def _wait(self, wakeup: int) -> None:
        """Wait for a signal, a message of the keeper, or the time of the next check."""
        pause = IDLE_POLL_SECONDS if self._is_idle() else POLL_SECONDS
        ready, _, _ = select.select([wakeup, self._keeper.fd], [], [], pause)
        if wakeup in ready:
            os.read(wakeup, 4096)
        if self._keeper.fd in ready:
            self._keeper.receive()

    def _is_idle(self) -> bool:
        """Whether all children are there, and none of them runs or waits for anything."""
        if self._stopping or self._to_replace or not self._announced:
            return False
        return all(child.pid and not self._shared.is_busy(child.index) for child in self._children)

    def _announce_ready(self) -> None:
        if not self._announced and all(self._shared.is_up(child.index) for child in self._children):
            self._announced = True
            self._say("ready")

    def _finish(self) -> int:
        """All children have exited: let the keeper recover them, then end it.

        Returns:
            The exit code: 1 if another worker has to recover them.
        """
        self._keeper.finish()
        deadline = time.monotonic() + RECOVERY_TIMEOUT_SECONDS
        while not self._keeper.has_exited() and time.monotonic() < deadline:
            select.select([], [], [], RECOVERY_POLL_SECONDS)
            if len([s for s in self._signals if s in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)]) > 1:
                break
        if self._keeper.pid:
            self._keeper.kill()
            self._say("stopped; another worker will take back what was held")
            return 1
        self._say("stopped")
        return 0
