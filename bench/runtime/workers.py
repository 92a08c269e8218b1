"""Real workers: `manage.py runworker` as processes of their own, on the test's database and Redis."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.runtime.nursery import ForkedProcess, Nursery
from bench.runtime.processes import die_with_parent
from bench.runtime.waiting import wait_until

ROOT = Path(__file__).resolve().parent.parent.parent

nursery = Nursery()


class WorkerProcess:
    """A running `manage.py runworker`, supervisor and children, in a process group of its own; or another command.

    Args:
        verb: The command.
        forked: Start it from a process that has its imports done, which takes a third of the time.
        prefix: A command that runs the command after it, such as `ip netns exec`.

    Attributes:
        pid: Process id of the supervisor, and of the group.
        log: The file with everything that it printed.
    """

    def __init__(
        self,
        arguments: list[str],
        environment: dict[str, str],
        log: Path,
        *,
        verb: str = "runworker",
        forked: bool = False,
        prefix: Sequence[str] = (),
    ) -> None:
        self.log = log
        self.command = [*prefix, sys.executable, str(ROOT / "manage.py"), verb, *arguments]
        self._process: subprocess.Popen[bytes] | ForkedProcess
        log.touch()
        if forked:
            self._process = nursery.fork([verb, *arguments], environment, log)
            self.pid = self._process.pid
            return
        with open(log, "wb") as output:
            self._process = subprocess.Popen(
                self.command,
                env=environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGTERM),
            )
        self.pid = self._process.pid

    def output(self) -> str:
        """Everything that it printed so far."""
        return self.log.read_text(errors="replace")

    def wait_for(self, text: str, timeout: float = 60.0) -> None:
        """Wait until it has printed `text`; fails at once if it ends without."""

        def seen() -> bool:
            ended = self._process.poll()
            if text in self.output():
                return True
            assert ended is None, (
                f"the worker ended with {ended} before it printed {text!r}:\n{self.output()}"
            )
            return False

        wait_until(seen, timeout, lambda: f"{text!r} in the worker's output:\n{self.output()}")

    def wait(self, timeout: float = 60.0) -> int:
        """Wait until it has ended and return its exit code (negative: the signal that ended it)."""
        wait_until(
            lambda: self._process.poll() is not None, timeout, lambda: f"the worker's end:\n{self.output()}"
        )
        return int(self._process.returncode)

    def signal(self, number: int) -> None:
        """Send a signal to the supervisor alone."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL to the whole group, as when its machine loses power."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self, timeout: float = 60.0) -> int:
        """Ask it to end (SIGTERM), wait, and return its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def clean_up(self, timeout: float = 10.0) -> None:
        """End it by any means; children that outlived their supervisor too."""
        if self._process.poll() is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout)
        self.kill()
