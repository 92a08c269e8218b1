"""The supervisor: forks, reaps and kills. No threads, so that forking is safe; no store, so that nothing blocks it.

Signals: TERM and INT drain; a second one, or QUIT, hurries; HUP replaces the children one by one.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType

from queue_app import clock
from queue_app.worker import title
from queue_app.worker.child.child import Child
from queue_app.worker.config import WorkerConfig
from queue_app.worker.forking import explain, fork
from queue_app.worker.keeper.keeper import Keeper
from queue_app.worker.pipes import Birth, Channel, Death, as_values
from queue_app.worker.shared_state import Running, SharedState

logger = logging.getLogger(__name__)

#: Seconds between two looks at the time limits of running jobs, and at whether any run.
POLL_SECONDS, IDLE_POLL_SECONDS = 0.2, 0.5
#: A child that dies sooner than this many seconds after its start is replaced ever more slowly.
QUICK_DEATH_SECONDS, MAX_RESTART_DELAY_SECONDS = 2.0, 5.0
#: Seconds that the keeper has to bury the dead once all children are gone.
RECOVERY_TIMEOUT_SECONDS = 20.0


@dataclass(slots=True)
class ChildSlot:
    """A child's place: who sits there, and what is to be done about it."""

    index: int
    pid: int = 0
    serial: int = 0
    started: float = 0.0
    start_at: float = 0.0
    quick_deaths: int = 0
    #: What it is killed for: the jobs over their limit, those whose import is, and those cancelled that do not end.
    overdue: dict[str, float] = field(default_factory=dict)
    hung: dict[str, float] = field(default_factory=dict)
    cancel_overdue: dict[str, float] = field(default_factory=dict)
    #: The slots and jobs that were late at the last look; it is killed for those that are so twice.
    late: set[tuple[int, str]] = field(default_factory=set)
    stop_requested: bool = False
    #: Told to make room for its successor.
    leaving: bool = False


class Supervisor:
    """One worker.

    Args:
        config: what it was told to do; checked.
        say: prints a line for people.
    """

    def __init__(self, config: WorkerConfig, say: Callable[[str], None]) -> None:
        self._config = config
        self._say = say
        self._shared = SharedState(config.processes, config.slots)
        self._seats = [ChildSlot(index) for index in range(config.processes)]
        self._serial = 0
        self._keeper_pid = 0
        self._keeper_started = 0.0
        self._to_keeper: Channel | None = None
        self._from_keeper: Channel | None = None
        self._unrecovered: dict[int, Death] = {}
        self._signals: list[int] = []
        self._stopping = False
        self._deadline = 0.0
        self._hurried = False
        self._reload: list[int] = []
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
        self._start_keeper()
        while True:
            self._handle_signals()
            self._reap()
            self._enforce_limits()
            if self._stopping:
                if not any(seat.pid for seat in self._seats):
                    break
                self._kill_overdue()
            else:
                self._spawn_missing()
                self._rolling_restart()
            self._announce_ready()
            self._listen(read)
        return self._finish()

    # signals: the handler only notes, the loop acts

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
                self._reload = [seat.index for seat in self._seats if seat.index not in self._reload]

    def _stop_children(self) -> None:
        self._stopping = True
        self._deadline = time.monotonic() + self._config.grace
        for seat in self._seats:
            self._kill(seat, signal.SIGTERM)

    def _kill_overdue(self) -> None:
        """What has not ended within the grace is killed; the keeper requeues it without blame."""
        if self._hurried or time.monotonic() >= self._deadline:
            for seat in self._seats:
                seat.stop_requested = True
                self._kill(seat, signal.SIGKILL)

    @staticmethod
    def _kill(seat: ChildSlot, signum: int) -> None:
        if seat.pid:
            with contextlib.suppress(ProcessLookupError):  # reaped in a moment
                os.kill(seat.pid, signum)

    # children

    def _spawn_missing(self) -> None:
        now = time.monotonic()
        for seat in self._seats:
            if not seat.pid and now >= seat.start_at:
                self._start_child(seat)

    def _start_child(self, seat: ChildSlot) -> None:
        self._serial += 1
        self._shared.clear(seat.index)
        seat.serial, seat.started = self._serial, time.monotonic()
        seat.overdue, seat.hung, seat.cancel_overdue, seat.late = {}, {}, {}, set()
        seat.stop_requested = seat.leaving = False
        seat.pid = fork(
            lambda: Child(self._config, self._shared, seat.index, seat.serial).run(),
            close=(self._to_keeper, self._from_keeper),
            bound=True,
        )
        self._send_to_keeper("birth", Birth(seat.serial, seat.pid, seat.index))

    def _rolling_restart(self) -> None:
        """Reload: the next child is told to stop once the one before it has a successor that is up."""
        if not self._reload:
            return
        if any(not seat.pid or seat.leaving or not self._shared.is_up(seat.index) for seat in self._seats):
            return
        seat = self._seats[self._reload.pop(0)]
        self._kill(seat, signal.SIGTERM)
        seat.leaving = True

    def _enforce_limits(self) -> None:
        """Kill children whose job is late. Shared memory can be read half-written: look twice."""
        now = time.monotonic()
        for seat in self._seats:
            if not seat.pid or seat.stop_requested:
                continue
            over = {(r.slot, r.id): r for r in self._shared.running(seat.index) if r.is_late(now)}
            confirmed = [r for key, r in over.items() if key in seat.late]
            seat.late = set(over)
            if confirmed:
                for r in confirmed:
                    if 0 < r.hard <= now:
                        why = seat.hung if r.importing else seat.overdue
                    else:
                        why = seat.cancel_overdue
                    why[r.id] = clock.seconds() - r.started_at
                self._kill(seat, signal.SIGKILL)

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._keeper_pid:
                self._keeper_died(status)
                continue
            for seat in self._seats:
                if seat.pid == pid:
                    self._child_died(seat, status, usage.ru_maxrss / 1024)

    def _child_died(self, seat: ChildSlot, status: int, peak_mb: float) -> None:
        cause = explain(status, peak_mb)
        running: list[Running] = self._shared.running(seat.index)
        death = Death(
            serial=seat.serial,
            cause=cause,
            running={r.id: r.started_at for r in running},
            timed_out={r.id: seat.overdue[r.id] for r in running if r.id in seat.overdue},
            cancelled={r.id: seat.cancel_overdue[r.id] for r in running if r.id in seat.cancel_overdue},
            importing=[r.id for r in running if r.importing],
            hung={r.id: seat.hung[r.id] for r in running if r.id in seat.hung},
            blameless=seat.stop_requested,
        )
        # A child that was killed for one job's limit takes its neighbours along: they are not to blame.
        if death.timed_out or death.cancelled or death.hung:
            death.blameless = True
        if cause and not death.blameless:
            logger.error(
                "Child %d (pid %d) died: %s; %d jobs were running.", seat.index, seat.pid, cause, len(running)
            )
        self._unrecovered[seat.serial] = death
        self._send_to_keeper("death", death)
        seat.pid = 0
        lived = time.monotonic() - seat.started
        seat.quick_deaths = seat.quick_deaths + 1 if cause and lived < QUICK_DEATH_SECONDS else 0
        delay = min(0.1 * 2**seat.quick_deaths, MAX_RESTART_DELAY_SECONDS) if seat.quick_deaths > 1 else 0.0
        seat.start_at = time.monotonic() + delay

    # the keeper

    def _start_keeper(self) -> None:
        for line in (self._to_keeper, self._from_keeper):
            if line is not None:
                line.close()
        down_read, down_write = os.pipe2(os.O_CLOEXEC)
        up_read, up_write = os.pipe2(os.O_CLOEXEC)
        self._to_keeper, self._from_keeper = Channel(down_write), Channel(up_read)
        self._keeper_started = time.monotonic()

        def run() -> int:
            os.close(down_write)
            os.close(up_read)
            return Keeper(self._config, self._shared, Channel(down_read), Channel(up_write)).run()

        self._keeper_pid = fork(run)
        os.close(down_read)
        os.close(up_write)
        for seat in self._seats:
            if seat.pid:
                self._send_to_keeper("birth", Birth(seat.serial, seat.pid, seat.index))
        for death in self._unrecovered.values():
            self._send_to_keeper("death", death)
        self._to_keeper.send("complete")

    def _keeper_died(self, status: int) -> None:
        self._keeper_pid = 0
        if time.monotonic() - self._keeper_started < QUICK_DEATH_SECONDS:
            time.sleep(0.5)  # rather than fork in circles; children go on meanwhile
        logger.error("The keeper died: %s; it is replaced.", explain(status, 0) or "exit code 0")
        self._start_keeper()

    def _send_to_keeper(self, kind: str, message: Death | Birth) -> None:
        if self._to_keeper is not None:
            self._to_keeper.send(kind, **as_values(message))

    def _listen(self, wakeup: int) -> None:
        assert self._from_keeper is not None
        pause = IDLE_POLL_SECONDS if self._is_idle() else POLL_SECONDS
        ready, _, _ = select.select([wakeup, self._from_keeper.fd], [], [], pause)
        if wakeup in ready:
            os.read(wakeup, 4096)
        if self._from_keeper.fd in ready:
            for message in self._from_keeper.receive() or ():
                self._unrecovered.pop(message["serial"], None)

    def _is_idle(self) -> bool:
        """Whether all children are there, and none of them runs or waits for anything."""
        if self._stopping or self._reload or not self._announced:
            return False
        return all(seat.pid and not self._shared.is_busy(seat.index) for seat in self._seats)

    def _finish(self) -> int:
        """All children are gone: let the keeper bury them, then end it."""
        assert self._to_keeper is not None
        self._to_keeper.send("finish")
        deadline = time.monotonic() + RECOVERY_TIMEOUT_SECONDS
        while self._keeper_pid and time.monotonic() < deadline:
            pid, _ = os.waitpid(self._keeper_pid, os.WNOHANG)
            if pid:
                self._keeper_pid = 0
                break
            select.select([], [], [], 0.02)
            if len([s for s in self._signals if s in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)]) > 1:
                break
        if self._keeper_pid:
            os.kill(self._keeper_pid, signal.SIGKILL)
            os.waitpid(self._keeper_pid, 0)
            self._say("stopped; another worker will take back what was held")
            return 1
        self._say("stopped")
        return 0

    def _announce_ready(self) -> None:
        if not self._announced and all(self._shared.is_up(seat.index) for seat in self._seats):
            self._announced = True
            self._say("ready")
