"""The processes that `demo` and `serve` start: they are watched, and they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from bench.runtime.waiting import wait_until
from bench.runtime.workers import ROOT
from jobqueue_project.processes import Interrupted, ManagedProcess, ProcessFailed, interruptible

READY = "import signal, sys; print('ready', flush=True); "


@pytest.fixture
def managed() -> Iterator[Callable[[str], ManagedProcess]]:
    """Starts Python code as a managed process."""
    made: list[ManagedProcess] = []

    def make(code: str) -> ManagedProcess:
        made.append(ManagedProcess("helper", ["-c", code], os.environ, lambda line: None))
        return made[-1]

    yield make
    for process in made:
        process.stop(0.0)


def test_its_lines_are_heard_and_it_is_ended_by_term() -> None:
    lines: list[str] = []
    code = READY + "print('ünf', flush=True); signal.pause()"
    process = ManagedProcess("helper", ["-c", code], os.environ, lines.append)
    process.start("ready")
    wait_until(lambda: len(lines) == 2, 10, "two lines")
    process.check()
    assert process.stop() == -signal.SIGTERM
    assert lines == ["ready", "ünf"]
    assert process.stop() == -signal.SIGTERM  # once more does no harm


def test_one_that_does_not_heed_term_is_killed_with_its_children(
    managed: Callable[[str], ManagedProcess],
) -> None:
    code = (
        "import os, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.fork(); print('ready', flush=True)\n"
        "while True: signal.pause()"
    )
    process = managed(code)
    process.start("ready")
    wait_until(lambda: len(psutil.Process(process.pid).children()) == 1, 10, "its child")
    child = psutil.Process(process.pid).children()[0]
    assert process.stop(0.1) == -signal.SIGKILL
    wait_until(
        lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 10, "its child's end"
    )


def test_one_that_ends_by_itself_is_noticed(managed: Callable[[str], ManagedProcess]) -> None:
    with pytest.raises(
        ProcessFailed, match=r"The helper ended by itself \(exit code 3\)\.\n    no such queue"
    ):
        managed("print('no such queue'); raise SystemExit(3)").start("ready")
    process = managed(READY + "signal.pause()")
    process.start("ready")
    os.kill(process.pid, signal.SIGKILL)

    def noticed() -> bool:
        try:
            process.check()
        except ProcessFailed as error:
            return "signal SIGKILL" in str(error)
        return False

    wait_until(noticed, 10, "the notice")


def test_one_that_is_never_ready_is_given_up(managed: Callable[[str], ManagedProcess]) -> None:
    process = managed("import signal; print('hm', flush=True); signal.pause()")
    with pytest.raises(ProcessFailed, match=r"was not ready within 0\.5 s"):
        process.start("ready", timeout=0.5)


def test_it_ends_with_the_process_that_started_it() -> None:
    code = (
        "import os, django; django.setup()\n"
        "from jobqueue_project.processes import ManagedProcess\n"
        "endless = 'import signal; print(1, flush=True); signal.pause()'\n"
        "p = ManagedProcess('helper', ['-c', endless], os.environ, print)\n"
        "p.start('1'); print(f'pid {p.pid}.', flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL
    pid = int(done.stdout.split("pid ")[1].split(".")[0])  # lines of its thread may stand around it
    wait_until(lambda: not psutil.pid_exists(pid), 10, f"the end of {pid}")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_interrupt_the_block_and_nothing_else(signum: int) -> None:
    before = signal.getsignal(signum)
    deadline = time.monotonic() + 10
    with pytest.raises(Interrupted) as told, interruptible():
        os.kill(os.getpid(), signum)
        while time.monotonic() < deadline:
            signal.sigtimedwait([], 0.01)
    assert told.value.signum == signum
    assert signal.getsignal(signum) is before
