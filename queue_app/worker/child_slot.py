"""A child as its supervisor sees it: its process, the limits that its jobs have exceeded, and when it may start."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from queue_app import clock
from queue_app.worker.pipes import ChildExited, ChildStarted
from queue_app.worker.shared_state import Running

#: A child that exits sooner than this many seconds after its start is replaced after a delay, which doubles each time.
QUICK_EXIT_SECONDS, MAX_RESTART_DELAY_SECONDS = 2.0, 5.0


@dataclass(slots=True)
class ChildSlot:
    """The place of one child in a worker. The children that succeed each other there have different serials.

    Attributes:
        index: of the child in the shared state.
        pid: of its process; 0 while there is none.
        serial: number of the child among all that this worker has had.
        started_at: when it started, on the monotonic clock.
        start_after: when the next child may start, on the monotonic clock.
        quick_exits: how many children in a row have failed soon after their start.
        overdue: job id → seconds that it had run, of jobs that exceeded their hard limit.
        import_overdue: job id → seconds, of jobs whose module took too long to import.
        cancel_overdue: job id → seconds, of jobs that were cancelled and did not end in time.
        late: slot and id of the jobs that were late at the last check.
        stop_requested: whether the child is killed because the worker stops.
        leaving: whether it was told to stop so that a successor replaces it.
    """

    index: int
    pid: int = 0
    serial: int = 0
    started_at: float = 0.0
    start_after: float = 0.0
    quick_exits: int = 0
    overdue: dict[str, float] = field(default_factory=dict)
    import_overdue: dict[str, float] = field(default_factory=dict)
    cancel_overdue: dict[str, float] = field(default_factory=dict)
    late: set[tuple[int, str]] = field(default_factory=set)
    stop_requested: bool = False
    leaving: bool = False

    def prepare(self, serial: int) -> None:
        """Make ready for a new child with this serial."""
        self.serial, self.started_at = serial, time.monotonic()
        self.overdue, self.import_overdue, self.cancel_overdue, self.late = {}, {}, {}, set()
        self.stop_requested = self.leaving = False

    def started(self) -> ChildStarted:
        """The message that tells the keeper of this child."""
        return ChildStarted(self.serial, self.pid, self.index)

    def kill(self, signum: int) -> None:
        """Send a signal to the child, if there is one."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):  # it has just exited, and is reaped soon
                os.kill(self.pid, signum)

    def exceeds_limits(self, running: Iterable[Running], now: float) -> bool:
        """Check the limits of the jobs that run, and note which ones are exceeded.

        Shared memory can be read half-written. So a job counts as late only at the second check in a row.

        Args:
            running: what runs in the child.
            now: on the monotonic clock.

        Returns:
            Whether the child is to be killed.
        """
        late = {(job.slot, job.id): job for job in running if job.is_late(now)}
        confirmed = [job for key, job in late.items() if key in self.late]
        self.late = set(late)
        for job in confirmed:
            if not 0 < job.hard <= now:
                exceeded = self.cancel_overdue
            elif job.importing:
                exceeded = self.import_overdue
            else:
                exceeded = self.overdue
            exceeded[job.id] = clock.seconds() - job.started_at
        return bool(confirmed)

    def exited(self, cause: str, running: list[Running]) -> ChildExited:
        """The child has exited; from now on a new one may be started, after a delay if this one failed at once.

        Args:
            cause: for people; empty for a planned exit.
            running: what ran in it.

        Returns:
            The message that tells the keeper of it.
        """
        message = ChildExited(
            serial=self.serial,
            cause=cause,
            running={job.id: job.started_at for job in running},
            timed_out={job.id: self.overdue[job.id] for job in running if job.id in self.overdue},
            cancelled={
                job.id: self.cancel_overdue[job.id] for job in running if job.id in self.cancel_overdue
            },
            importing=[job.id for job in running if job.importing],
            import_timed_out={
                job.id: self.import_overdue[job.id] for job in running if job.id in self.import_overdue
            },
            blameless=self.stop_requested,
        )
        # A child that is killed for one job's limit takes the other jobs in it along: they are not to blame.
        if message.timed_out or message.cancelled or message.import_timed_out:
            message.blameless = True
        self.pid = 0
        now = time.monotonic()
        failed_at_once = cause and now - self.started_at < QUICK_EXIT_SECONDS
        self.quick_exits = self.quick_exits + 1 if failed_at_once else 0
        delay = min(0.1 * 2**self.quick_exits, MAX_RESTART_DELAY_SECONDS) if self.quick_exits > 1 else 0.0
        self.start_after = now + delay
        return message
