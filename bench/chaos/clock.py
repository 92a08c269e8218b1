"""A worker's time, shifted: a file with the offset in seconds, which the driver writes and the worker reads.

What is shifted is the clock of the product (`queue_app.clock`), as if the machine's own had been stepped; the
monotonic clock goes on, as it does there. Nothing of this is in the product: the app `bench.chaos` sets it up.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from pathlib import Path

VARIABLE = "CHAOS_CLOCK"
_OFFSET = struct.Struct("<d")


def write(path: Path, seconds: float) -> None:
    """Step the clock of the worker that reads this file."""
    if not path.exists():
        path.write_bytes(bytes(_OFFSET.size))
    with open(path, "r+b") as file:
        file.write(_OFFSET.pack(seconds))


def install() -> None:
    """In a worker: read the time through the file that the environment names, if it does."""
    path = os.environ.get(VARIABLE)
    if not path:
        return
    from queue_app import clock

    with open(path, "r+b") as file:
        memory = mmap.mmap(file.fileno(), _OFFSET.size)  # shared with the processes that this one forks
    clock.travel(lambda: time.time() + _OFFSET.unpack_from(memory)[0])
