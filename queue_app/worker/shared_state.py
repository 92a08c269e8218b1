"""What children tell the supervisor and the keeper through shared memory: no lock, no message, no system call.

A child writes, others read. A torn read is possible and harmless: whoever acts on what it read looks twice.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
import threading
from typing import NamedTuple

#: Of a child: last claim (epoch seconds), jobs run, 1 once it is up, 2 while it keeps itself free for a single job.
_HEAD = struct.Struct("<dQB")
#: Of a slot, written by the keeper: the id of the job that it shall interrupt, and until when it may clean up
#: (monotonic). It names the job, so that it means nothing to the next one in the slot.
_CANCEL = struct.Struct("<36sd")
#: Of a slot: 1 while a job runs, 2 while its task's module is imported; its id, attempt number, start (epoch seconds),
#: hard limit (monotonic; 0: none).
_SLOT = struct.Struct("<B36sIdd")
_RUNNING, _IMPORTING = 1, 2
_UP, _EXCLUSIVE = 1, 2


#: Bytes of the digest of the epochs that the keeper has seen.
_DIGEST = 16


class Running(NamedTuple):
    """A job under way. `hard` is on the monotonic clock, 0 where there is no limit; so is `cancel`, 0 where nobody has
    cancelled it. `importing`: its task's module is imported, and `hard` is the limit for that."""

    slot: int
    id: str
    number: int
    started_at: float
    hard: float
    cancel: float = 0.0
    importing: bool = False

    def is_late(self, now: float) -> bool:
        """Whether its child is to be killed for it."""
        return 0 < self.hard <= now or 0 < self.cancel <= now


class SharedState:
    """The shared memory of one worker.

    Args:
        children: how many children have a place on it.
        slots: jobs that each runs at once.
    """

    def __init__(self, children: int, slots: int) -> None:
        self._slots = slots
        self._size = _HEAD.size + slots * _SLOT.size
        self._memory = mmap.mmap(-1, max(children * self._size, 1))  # anonymous: shared with forked children
        self._cancels = mmap.mmap(-1, max(children * slots * _CANCEL.size, 1))
        #: For each child, how often the keeper had reason to ask what of the child's backlog must not begin: read once
        #: for each job, hence whole words that are read without a call. Requests to cancel in the lower half, losses of
        #: what Redis held in the upper one.
        self.recheck_counter = memoryview(mmap.mmap(-1, max(children, 1) * 8)).cast("Q")
        self._counting = threading.Lock()
        self._epochs = mmap.mmap(-1, _DIGEST)

    def clear(self, child: int) -> None:
        """Empty a place before a new child takes it."""
        start = child * self._size
        self._memory[start : start + self._size] = bytes(self._size)

    # written by the child

    def up(self, child: int, at: float) -> None:
        _HEAD.pack_into(self._memory, child * self._size, at, 0, _UP)

    def claimed(self, child: int, at: float, jobs: int) -> None:
        """It could claim at this time (epoch seconds), and has run so many jobs."""
        _HEAD.pack_into(self._memory, child * self._size, at, jobs, _UP)

    def set_exclusive(self, child: int, exclusive: bool) -> None:
        """Whether it claims nothing for now, because one job has to run alone in it."""
        self._memory[child * self._size + _HEAD.size - 1] = _EXCLUSIVE if exclusive else _UP

    def start(self, child: int, slot: int, job_id: str, number: int, started_at: float, hard: float) -> None:
        _SLOT.pack_into(
            self._memory,
            child * self._size + _HEAD.size + slot * _SLOT.size,
            _RUNNING,
            job_id.encode(),
            number,
            started_at,
            hard,
        )

    def importing(self, child: int, slot: int, job_id: str, number: int, at: float, hard: float) -> None:
        """The module of a job's task is about to be imported; the arguments are those of `start`."""
        self.start(child, slot, job_id, number, at, hard)
        self._memory[child * self._size + _HEAD.size + slot * _SLOT.size] = _IMPORTING

    def end(self, child: int, slot: int) -> None:
        self._memory[child * self._size + _HEAD.size + slot * _SLOT.size] = 0

    # read by the others

    def is_up(self, child: int) -> bool:
        return bool(_HEAD.unpack_from(self._memory, child * self._size)[2])

    def last_claim(self, child: int) -> float:
        """Epoch seconds; 0 when it has not claimed yet."""
        return float(_HEAD.unpack_from(self._memory, child * self._size)[0])

    def is_exclusive(self, child: int) -> bool:
        """Whether it does not claim because one job is to run alone in it."""
        return int(_HEAD.unpack_from(self._memory, child * self._size)[2]) == _EXCLUSIVE

    def is_busy(self, child: int) -> bool:
        """Whether a job runs in any of its slots."""
        first = child * self._size + _HEAD.size
        return any(self._memory[first + slot * _SLOT.size] for slot in range(self._slots))

    def running(self, child: int) -> list[Running]:
        found = []
        for slot in range(self._slots):
            busy, raw, number, started_at, hard = _SLOT.unpack_from(
                self._memory, child * self._size + _HEAD.size + slot * _SLOT.size
            )
            if busy:
                cancelled, until = self._cancel(child, slot)
                cancel = until if cancelled == raw else 0.0
                job_id, importing = raw.decode("ascii", "replace"), busy == _IMPORTING
                found.append(Running(slot, job_id, number, started_at, hard, cancel, importing))
        return found

    # what of the backlog must not begin: written by the keeper, read by the child

    def request_recheck(self, child: int) -> None:
        """Jobs were cancelled that this child may have claimed."""
        with self._counting:
            self.recheck_counter[child] += 1

    def flag_data_loss(self, child: int) -> None:
        """Redis no longer knows what this child has claimed."""
        with self._counting:
            self.recheck_counter[child] += 1 << 32

    @staticmethod
    def is_data_loss_flagged(count: int, earlier: int) -> bool:
        """Whether there was a loss between these two values of `recheck_counter`."""
        return count >> 32 != earlier >> 32

    # what the keeper has seen of Redis: written by it, read by the keeper that replaces it

    def see_epochs(self, names: str) -> None:
        """The children's jobs are known to Redis, in the data of these epochs."""
        self._epochs[:] = _digest(names)

    def has_seen_epochs(self, names: str) -> bool:
        """Whether these were the last ones."""
        return self._epochs[:] == _digest(names)

    @property
    def has_seen_any_epochs(self) -> bool:
        return any(self._epochs[:])

    # cancelled jobs: written by the keeper, read by the child and the supervisor

    def cancel(self, child: int, slot: int, job_id: str, until: float) -> bool:
        """Let the job that runs in this slot be interrupted.

        Args:
            until: when it is to be killed, on the monotonic clock. What was said first holds.

        Returns:
            Whether this is news.
        """
        if self._cancel(child, slot)[0] == job_id.encode():
            return False
        _CANCEL.pack_into(self._cancels, (child * self._slots + slot) * _CANCEL.size, job_id.encode(), until)
        return True

    def is_cancelled(self, child: int, slot: int, job_id: str) -> bool:
        return self._cancel(child, slot)[0] == job_id.encode()

    def _cancel(self, child: int, slot: int) -> tuple[bytes, float]:
        found: tuple[bytes, float] = _CANCEL.unpack_from(
            self._cancels, (child * self._slots + slot) * _CANCEL.size
        )
        return found


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST).digest()
