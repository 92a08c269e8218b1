"""Messages between supervisor and keeper: one JSON object a line, through a pair of pipes.

The supervisor sends `child_started` and `child_exited`. It sends `children_listed` once a new keeper knows all living
children, and `finish` when the worker stops. The keeper answers `child_recovered`.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class ChildExited:
    """A child has exited.

    Attributes:
        serial: of the child; its holder's name ends with it.
        cause: for people: "killed by SIGKILL", "exit code 3"; empty for a planned exit.
        running: job id → epoch seconds at which its attempt started, of all jobs that ran.
        timed_out: job id → seconds that it had run, of jobs whose hard limit the child was killed for.
        cancelled: likewise, of jobs that were cancelled and did not end in time.
        importing: ids of running jobs whose task's module was still being imported.
        import_timed_out: job id → seconds that the import had taken, of jobs that the child was killed for.
        blameless: whether no job is to blame, because the supervisor killed the child on purpose.
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
    """A child was started; `index` is its index in the shared state."""

    serial: int
    pid: int
    index: int


class Channel:
    """One direction of the conversation.

    Args:
        fd: the end of a pipe.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._rest = b""

    def send(self, kind: str, **values: Any) -> bool:
        """Send a message.

        Args:
            kind: of the message.
            values: its fields; they must fit into JSON.

        Returns:
            False if the reader has exited.
        """
        data = json.dumps({"kind": kind, **values}).encode() + b"\n"
        try:
            while data:
                data = data[os.write(self.fd, data) :]
        except BrokenPipeError:
            return False
        return True

    def receive(self) -> list[dict[str, Any]] | None:
        """Read the messages that have arrived. Blocks while there is none.

        Returns:
            Messages as dicts, with their `kind`; None if the writer has exited.
        """
        data = os.read(self.fd, 65_536)
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        """Close this end."""
        os.close(self.fd)


def as_values(message: ChildExited | ChildStarted) -> dict[str, Any]:
    """The fields of a message, for `Channel.send`."""
    return asdict(message)
