"""A server process that tests start, stop, kill and freeze; it dies with the process that started it."""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

START_DEADLINE = 30.0  # seconds until a started server must answer
STOP_DEADLINE = 15.0  # seconds until a stopped one must be gone
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class ServerUnavailable(Exception):
    """The server cannot be run on this machine; the message says what to install or what it said."""


class Server:
    """A server process of ours. Start it by `with`, or by `start` and `stop`.

    Attributes:
        url: Where clients connect; the same after a restart.
    """

    name = "server"
    death_signal = signal.SIGKILL

    def __init__(self, command: list[str], log: Path, *, user: str | None = None) -> None:
        self.command = command
        self.log = log
        self.url = ""
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    def __str__(self) -> str:
        return self.url

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        if self._process is None:
            raise RuntimeError(f"{self.name} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            ServerUnavailable: with the end of its log.
        """
        who: dict[str, Any] = {}
        if self._user:
            entry = pwd.getpwnam(self._user)
            who = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(self.death_signal),
                cwd="/",
                **who,
            )
        deadline = time.monotonic() + START_DEADLINE
        while not self.answers():
            if not self.running or time.monotonic() > deadline:
                self.kill()
                tail = self.log.read_text(errors="replace")[-1500:]
                raise ServerUnavailable(f"{self.name} did not start: {' '.join(self.command)}\n{tail}")
            time.sleep(0.01)

    def answers(self) -> bool:
        """Whether the server answers a query."""
        raise NotImplementedError

    def stop(self) -> None:
        """End the server in an orderly way; nothing happens if it is not running."""
        if self._process is None:
            return
        if self.running:
            self.resume()
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(STOP_DEADLINE)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._process = None

    def kill(self) -> None:
        """End the server as a power cut would: SIGKILL, at once."""
        if self._process is not None:
            if self.running:
                self._process.kill()
            self._process.wait()
            self._process = None

    def take_over(self, other: Server) -> None:
        """Have the process of another server from now on, which answers at this one's address; its own is dead."""
        self.kill()
        self._process, other._process = other._process, None

    def restart(self) -> None:
        """Start the server again at the same address, stopping it first if it runs."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze the server: connections stay open and nothing answers, until `resume`."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        os.kill(self.pid, signal.SIGCONT)


def free_port() -> int:
    """A loopback port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def die_with_parent(death_signal: int) -> Callable[[], None] | None:
    """A `preexec_fn`: the child asks the kernel for this signal at the moment when its parent dies.

    Popen runs it after the change of user, which would clear the request. None where the kernel cannot (not
    Linux).
    """
    if _libc is None:
        return None
    libc, parent = _libc, os.getpid()

    def ask() -> None:
        libc.prctl(PR_SET_PDEATHSIG, death_signal)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return ask
