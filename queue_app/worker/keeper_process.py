"""The keeper as its supervisor sees it: a process that is replaced when it dies, and a pipe in each direction."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterable

from queue_app.worker.config import WorkerConfig
from queue_app.worker.forking import explain, fork
from queue_app.worker.keeper.keeper import Keeper
from queue_app.worker.pipes import Channel, ChildExited, ChildStarted, as_values
from queue_app.worker.shared_state import SharedState

logger = logging.getLogger(__name__)

#: A keeper that dies sooner than this many seconds after its start is replaced after a pause of so many seconds.
QUICK_EXIT_SECONDS, RESTART_PAUSE_SECONDS = 2.0, 0.5


class KeeperProcess:
    """The keeper's process, and what it still has to be told.

    Args:
        config: of the worker.
        shared: the worker's shared state.

    Attributes:
        pid: 0 while there is no keeper.
    """

    def __init__(self, config: WorkerConfig, shared: SharedState) -> None:
        self.pid = 0
        self._config = config
        self._shared = shared
        self._started_at = 0.0
        self._to_keeper: Channel | None = None
        self._from_keeper: Channel | None = None
        #: Serial → the exit that the keeper has not acknowledged yet; told again to the keeper's successor.
        self._unrecovered: dict[int, ChildExited] = {}

    @property
    def channels(self) -> tuple[Channel | None, Channel | None]:
        """The supervisor's ends of the pipes, which no child may keep open."""
        return self._to_keeper, self._from_keeper

    @property
    def fd(self) -> int:
        """What can be selected on: readable when `receive` has something to read."""
        assert self._from_keeper is not None
        return self._from_keeper.fd

    def start(self, children: Iterable[ChildStarted]) -> None:
        """Start a keeper and tell it of the living children, and of the exits that are not acknowledged yet."""
        for channel in self.channels:
            if channel is not None:
                channel.close()
        down_read, down_write = os.pipe2(os.O_CLOEXEC)
        up_read, up_write = os.pipe2(os.O_CLOEXEC)
        self._to_keeper, self._from_keeper = Channel(down_write), Channel(up_read)
        self._started_at = time.monotonic()

        def run() -> int:
            os.close(down_write)
            os.close(up_read)
            return Keeper(self._config, self._shared, Channel(down_read), Channel(up_write)).run()

        self.pid = fork(run)
        os.close(down_read)
        os.close(up_write)
        for child in children:
            self._send("child_started", child)
        for child_exit in self._unrecovered.values():
            self._send("child_exited", child_exit)
        self._to_keeper.send("children_listed")

    def replace(self, status: int, children: Iterable[ChildStarted]) -> None:
        """The keeper has exited with this status: start another one."""
        self.pid = 0
        if time.monotonic() - self._started_at < QUICK_EXIT_SECONDS:
            time.sleep(RESTART_PAUSE_SECONDS)  # do not fork in a tight loop; children go on meanwhile
        logger.error("The keeper died: %s; it is replaced.", explain(status, 0) or "exit code 0")
        self.start(children)

    def child_started(self, message: ChildStarted) -> None:
        """Tell the keeper of a new child."""
        self._send("child_started", message)

    def child_exited(self, message: ChildExited) -> None:
        """Tell the keeper of a child's exit, and its successors until one acknowledges it."""
        self._unrecovered[message.serial] = message
        self._send("child_exited", message)

    def receive(self) -> None:
        """Read the acknowledgements that have arrived."""
        assert self._from_keeper is not None
        for message in self._from_keeper.receive() or ():
            self._unrecovered.pop(message["serial"], None)

    def finish(self) -> None:
        """Tell the keeper to exit once it has recovered all children."""
        assert self._to_keeper is not None
        self._to_keeper.send("finish")

    def has_exited(self) -> bool:
        """Whether it has exited by now."""
        if self.pid and os.waitpid(self.pid, os.WNOHANG)[0]:
            self.pid = 0
        return not self.pid

    def kill(self) -> None:
        """Kill it and wait for its end."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.pid = 0

    def _send(self, kind: str, message: ChildExited | ChildStarted) -> None:
        if self._to_keeper is not None:
            self._to_keeper.send(kind, **as_values(message))
