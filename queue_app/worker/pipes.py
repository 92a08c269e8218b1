"""What the supervisor and the keeper say to each other: one JSON object a line, through a pair of pipes."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class ChildExited:
    """A child that has ended.

    Attributes:
        serial: of the child; its holder's name ends with it.
        cause: for people: "killed by SIGKILL", "exit code 3"; empty for a planned end.
        running: id → epoch seconds at which its attempt began, of what was under way.
        timed_out: id → seconds that it had run, of what the supervisor killed it for.
        cancelled: likewise, of what was cancelled and did not end in time.
        importing: ids of those that ran whose task's module was still being imported.
        hung: id → seconds that this had taken, of those that the supervisor killed it for.
        blameless: it was killed because the worker has to stop.
    """

    serial: int
    cause: str
    running: dict[str, float] = field(default_factory=dict)
    timed_out: dict[str, float] = field(default_factory=dict)
    cancelled: dict[str, float] = field(default_factory=dict)
    importing: list[str] = field(default_factory=list)
    import_timed_out: dict[str, float] = field(default_factory=dict)
    blameless: bool = False


@dataclass(slots=True)
class ChildStarted:
    """A child that was started; `place` is its place on the board."""

    serial: int
    pid: int
    index: int


class Channel:
    """One direction of the conversation.

    Args:
        fd: the pipe's end.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._rest = b""

    def send(self, kind: str, **values: Any) -> bool:
        """Send a message.

        Returns:
            False when nobody listens any more.
        """
        data = json.dumps({"kind": kind, **values}).encode() + b"\n"
        try:
            while data:
                data = data[os.write(self.fd, data) :]
        except BrokenPipeError:
            return False
        return True

    def receive(self) -> list[dict[str, Any]] | None:
        """The messages that have arrived; None when the other side is gone. Blocks when there is none."""
        data = os.read(self.fd, 65_536)
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        os.close(self.fd)


def as_values(message: ChildExited | ChildStarted) -> dict[str, Any]:
    """A message as the values of a line."""
    return asdict(message)
