"""Forking the processes of a worker; whether one lives, how much memory it takes, and why it exited."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable

from queue_app.worker.pipes import Channel

logger = logging.getLogger(__name__)


def fork(run: Callable[[], int], *, close: Iterable[Channel | None] = (), bound: bool = False) -> int:
    """Run a function in a new process.

    Args:
        run: returns the exit code.
        close: channels of this process that the new one must not keep open.
        bound: whether the new process gets TERM when this one exits.

    Returns:
        The id of the new process.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    # TERM is blocked until the new process has its handler (see Child.run). It would be killed by one before that.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        return pid
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        for channel in close:
            if channel is not None:
                channel.close()
        if bound:
            _die_with_parent(parent)
        code = run()
    except BaseException:
        logger.exception("A process of the worker failed.")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _die_with_parent(parent: int) -> None:
    """Have the kernel send TERM when the supervisor exits (Linux), so that the child drains."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it exited before the call
        os._exit(1)


def is_alive(pid: int) -> bool:
    """Whether there is a process with this id. It may be another user's."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def resident_mb() -> float:
    """Resident memory of this process in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def explain(status: int, peak_mb: float) -> str:
    """Why a process exited, for people.

    Args:
        status: as `os.wait` returns it.
        peak_mb: its largest resident memory in MB; 0: unknown.

    Returns:
        Text; empty for exit code 0.
    """
    memory = f", peak memory {peak_mb:.0f} MB" if peak_mb else ""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"killed by {signal.Signals(number).name}{memory}"
    code = os.waitstatus_to_exitcode(status)
    return f"exit code {code}{memory}" if code else ""
