"""A process that has loaded what every worker loads, and forks one on request: most of a worker's start is imports.

No settings are read and no app is loaded before the fork: from `manage.py` on, a worker is on its own. Run as
`python -m bench.runtime.nursery <descriptor>` by `Nursery`.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.runtime.processes import die_with_parent
from queue_app.worker.title import set_title

ROOT = Path(__file__).resolve().parent.parent.parent

#: What workers import of others. None of these reads Django's settings when it is imported.
LIBRARIES = (
    "bs4",
    "django.contrib.admin.filters",
    "django.core.management",
    "django.db.backends.postgresql.base",
    "django.db.backends.sqlite3.base",
    "django.db.models",
    "django.forms",
    "django.http",
    "django.urls",
    "PIL.Image",
    "psycopg",
    "redis",
    "yaml",
)


class Nursery:
    """The other end: starts the process at the first use, once for each test run."""

    def __init__(self) -> None:
        self._channel: socket.socket | None = None
        self._replies: Any = None
        self._process: subprocess.Popen[bytes] | None = None

    def fork(self, arguments: list[str], environment: dict[str, str], log: Path) -> ForkedProcess:
        """Start `manage.py` with these arguments."""
        answer = self.ask({"arguments": arguments, "environment": environment, "log": str(log)})
        return ForkedProcess(self, answer["pid"])

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request and return the answer."""
        if self._channel is None:
            self._channel, theirs = socket.socketpair()
            self._process = subprocess.Popen(
                [sys.executable, "-u", "-m", "bench.runtime.nursery", str(theirs.fileno())],
                cwd=ROOT,
                pass_fds=[theirs.fileno()],
                preexec_fn=die_with_parent(signal.SIGTERM),
            )
            theirs.close()
            self._replies = self._channel.makefile()
        self._channel.sendall(json.dumps(request).encode() + b"\n")
        return dict(json.loads(self._replies.readline()))


class ForkedProcess:
    """What `subprocess.Popen` would be, for a child of the nursery."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._nursery = nursery

    def poll(self) -> int | None:
        """Its exit code (negative: the signal that ended it), or None while it runs."""
        if self.returncode is None:
            self.returncode = self._nursery.ask({"poll": self.pid})["returncode"]
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return its exit code.

        Raises:
            subprocess.TimeoutExpired: it did not end in time.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("manage.py", timeout or 0)
            time.sleep(0.005)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


def serve(channel: socket.socket) -> list[str]:
    """Answer requests. In a forked child: return the arguments of `manage.py`."""
    for line in channel.makefile():
        request = json.loads(line)
        if "poll" in request:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            answer = {"returncode": os.waitstatus_to_exitcode(status) if pid else None}
        else:
            follow_parent = die_with_parent(signal.SIGTERM)
            pid = os.fork()
            if pid == 0:
                channel.close()
                os.setsid()
                if follow_parent is not None:
                    follow_parent()
                _redirect(request["log"])
                os.environ.clear()
                os.environ.update(request["environment"])
                return list(request["arguments"])
            answer = {"pid": pid}
        channel.sendall(json.dumps(answer).encode() + b"\n")
    os._exit(0)


def _redirect(log: str) -> None:
    for number, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        fd = os.open(path, flags, 0o644)
        os.dup2(fd, number)
        os.close(fd)
    os.dup2(1, 2)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the tests to handle
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    # It learns where titles go from the environment that the process was started with, which a worker's replaces.
    set_title("nursery of workers")
    sys.argv = ["manage.py", *serve(socket.socket(fileno=int(sys.argv[1])))]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    runpy.run_path("manage.py", run_name="__main__")
