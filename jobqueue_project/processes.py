"""Processes that a command starts, watches and ends: the worker of `demo`, the worker and the web server of `serve`.

Each is in a session of its own, so that a Ctrl-C reaches the command alone, which then ends them in order. Should
the command be killed instead, the kernel ends them (Linux): they are started through this file, run as a program,
which asks for that and then becomes the program wanted.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from types import FrameType

from django.conf import settings

PR_SET_PDEATHSIG = 1
#: Seconds between two looks at a process.
LOOK = 0.02


class ProcessFailed(Exception):
    """A process did not start, or ended by itself; the message says which and what it printed last."""


class ManagedProcess:
    """A program in a process of its own.

    Args:
        name: for people.
        arguments: of the Python interpreter: a script, or `-m module`.
        environment: its whole environment.
        heard: called with each line that it prints, in a thread of its own.
    """

    def __init__(
        self, name: str, arguments: list[str], environment: Mapping[str, str], heard: Callable[[str], None]
    ) -> None:
        self.name = name
        self._heard = heard
        self._last: list[str] = []
        self._seen: dict[str, threading.Event] = {}
        command = [
            sys.executable,
            "-m",
            "jobqueue_project.processes",
            str(os.getpid()),
            sys.executable,
            *arguments,
        ]
        self._process = subprocess.Popen(
            command,
            env=dict(environment) | {"PYTHONUNBUFFERED": "1"},
            cwd=settings.BASE_DIR,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read, name=f"output of {name}", daemon=True)

    def start(self, word: str, timeout: float = 30.0) -> None:
        """Wait until it has printed a line with `word`.

        Raises:
            ProcessFailed: it ended, or `timeout` seconds have passed.
        """
        seen = self._seen[word] = threading.Event()
        self._reader.start()
        deadline = time.monotonic() + timeout
        while not seen.wait(LOOK):
            self.check()
            if time.monotonic() > deadline:
                raise ProcessFailed(f"The {self.name} was not ready within {timeout:g} s.{self._said()}")

    def check(self) -> None:
        """Make sure that it is there.

        Raises:
            ProcessFailed: it ended.
        """
        code = self._process.poll()
        if code is not None:
            self._reader.join(2.0)
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            raise ProcessFailed(f"The {self.name} ended by itself ({how}).{self._said()}")

    def stop(self, grace: float = 10.0) -> int:
        """End it: SIGTERM, and after `grace` seconds, or at the next Ctrl-C, SIGKILL to all of its group.

        Returns:
            Its exit code; negative where a signal ended it.
        """
        try:
            if self._process.poll() is None:
                self._process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(grace)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)  # what is left of it
            code = self._process.wait()
        if self._reader.ident is not None:
            self._reader.join(2.0)
        return code

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            line = line.rstrip("\n")
            self._last = [*self._last[-4:], line]
            for word, seen in self._seen.items():
                if word in line:
                    seen.set()
            self._heard(line)

    def _said(self) -> str:
        return "".join(f"\n    {line}" for line in self._last)


class Interrupted(BaseException):
    """The command was told to end.

    Attributes:
        signum: by which signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Within the block Ctrl-C, TERM and a closed terminal raise Interrupted, so that what was started is ended."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        if _is_finalizing(frame):  # what is raised there is ignored: a moment later
            signal.signal(signal.SIGALRM, lambda _, later: interrupt(signum, later))
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            return
        raise Interrupted(signum)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_finalizing(frame: FrameType | None) -> bool:
    """Whether this is called from a finalizer: of a weak reference, or of an object that is deleted."""
    while frame is not None:
        if frame.f_code.co_name == "__del__" or frame.f_code.co_filename == weakref.__file__:
            return True
        frame = frame.f_back
    return False


def become(parent: int, command: list[str]) -> None:
    """Become `command`, and end when `parent` does. Does not return."""
    with contextlib.suppress(OSError, AttributeError):  # not Linux
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before the kernel was asked
        sys.exit(1)
    os.execv(command[0], command)


if __name__ == "__main__":
    become(int(sys.argv[1]), sys.argv[2:])
