"""What a worker's processes tell each other through shared memory, without locks, messages or system calls.

A child writes what it runs; the supervisor and the keeper read it. A torn read is possible. It is harmless, because
those who act on what they read check it twice.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
import threading
from typing import NamedTuple

#: Of a child: its last claim (epoch seconds), jobs run, and its status: 0, _UP or _EXCLUSIVE.
_HEAD = struct.Struct("<dQB")
#: Of a slot, written by the keeper: the id of the job to interrupt, and when it is killed if it has not ended by then
#: (monotonic). The id keeps the request from applying to the next job in the slot.
_CANCEL = struct.Struct("<36sd")
#: Of a slot: its status (0, _RUNNING or _IMPORTING), the job's id, attempt number, start (epoch seconds) and hard limit
#: (monotonic; 0: none).
_SLOT = struct.Struct("<B36sIdd")
_RUNNING, _IMPORTING = 1, 2
#: A child is up; or it claims nothing because one job has to run alone in it.
_UP, _EXCLUSIVE = 1, 2
#: Bytes of the digest of the epochs that the keeper has seen.
_DIGEST = 16


class Running(NamedTuple):
    """A job that runs.

    Attributes:
        slot: the child's slot that it occupies.
        id: of the job.
        number: of the attempt.
        started_at: epoch seconds.
        hard: when its child is killed for it, on the monotonic clock; 0: no limit.
        cancel: when its child is killed because the job was cancelled, likewise; 0: it was not cancelled.
        importing: whether its task's module is being imported; `hard` is then the limit for the import.
    """

    slot: int
    id: str
    number: int
    started_at: float
    hard: float
    cancel: float = 0.0
    importing: bool = False

    def is_late(self, now: float) -> bool:
        """Whether its child is to be killed for it at this time, on the monotonic clock."""
        return 0 < self.hard <= now or 0 < self.cancel <= now


class SharedState:
    """The shared memory of one worker.

    Args:
        children: how many children the worker has at once. Each has an index, from 0.
        slots: how many jobs each child runs at once.

    Attributes:
        recheck_counter: one counter a child, indexed by child: how often the keeper had reason to make it check what
            it has claimed. The low half counts cancel requests, the high half losses of Redis's data. A child reads
            it once for each job, so it is a plain word that is read without a call.
    """

    def __init__(self, children: int, slots: int) -> None:
        self._slots = slots
        self._size = _HEAD.size + slots * _SLOT.size
        self._memory = mmap.mmap(-1, max(children * self._size, 1))  # anonymous: shared with forked children
        self._cancels = mmap.mmap(-1, max(children * slots * _CANCEL.size, 1))
        self.recheck_counter = memoryview(mmap.mmap(-1, max(children, 1) * 8)).cast("Q")
        self._counting = threading.Lock()
        self._epochs = mmap.mmap(-1, _DIGEST)

    def clear(self, child: int) -> None:
        """Reset what is known of a child, before a new one takes its index."""
        start = child * self._size
        self._memory[start : start + self._size] = bytes(self._size)

    # written by the child

    def up(self, child: int, at: float) -> None:
        """The child is ready to claim, at this time in epoch seconds."""
        _HEAD.pack_into(self._memory, child * self._size, at, 0, _UP)

    def claimed(self, child: int, at: float, jobs: int) -> None:
        """The child could claim at this time (epoch seconds), and has run so many jobs."""
        _HEAD.pack_into(self._memory, child * self._size, at, jobs, _UP)

    def set_exclusive(self, child: int, exclusive: bool) -> None:
        """Set whether the child claims nothing for now, because one job has to run alone in it."""
        self._memory[child * self._size + _HEAD.size - 1] = _EXCLUSIVE if exclusive else _UP

    def start(self, child: int, slot: int, job_id: str, number: int, started_at: float, hard: float) -> None:
        """A job occupies a slot.

        Args:
            number: of the attempt.
            started_at: epoch seconds.
            hard: when the child is killed for it, on the monotonic clock; 0: never.
        """
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
        """The module of a job's task is about to be imported. The arguments are those of `start`."""
        self.start(child, slot, job_id, number, at, hard)
        self._memory[child * self._size + _HEAD.size + slot * _SLOT.size] = _IMPORTING

    def end(self, child: int, slot: int) -> None:
        """The slot is free again."""
        self._memory[child * self._size + _HEAD.size + slot * _SLOT.size] = 0

    # read by the others

    def is_up(self, child: int) -> bool:
        """Whether the child has come up."""
        return bool(_HEAD.unpack_from(self._memory, child * self._size)[2])

    def last_claim(self, child: int) -> float:
        """When the child could last claim, in epoch seconds; 0 if it has not yet."""
        return float(_HEAD.unpack_from(self._memory, child * self._size)[0])

    def is_exclusive(self, child: int) -> bool:
        """Whether the child claims nothing because one job has to run alone in it."""
        return int(_HEAD.unpack_from(self._memory, child * self._size)[2]) == _EXCLUSIVE

    def is_busy(self, child: int) -> bool:
        """Whether a job runs in any slot of the child."""
        first = child * self._size + _HEAD.size
        return any(self._memory[first + slot * _SLOT.size] for slot in range(self._slots))

    def running(self, child: int) -> list[Running]:
        """What runs in the child."""
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

    # what claimed jobs have to be checked for: written by the keeper, read by the child

    def request_recheck(self, child: int) -> None:
        """Jobs were cancelled that the child may have claimed."""
        with self._counting:
            self.recheck_counter[child] += 1

    def flag_data_loss(self, child: int) -> None:
        """Redis no longer knows what the child has claimed."""
        with self._counting:
            self.recheck_counter[child] += 1 << 32

    @staticmethod
    def is_data_loss_flagged(count: int, earlier: int) -> bool:
        """Whether data loss was flagged between two values of a child's `recheck_counter`."""
        return count >> 32 != earlier >> 32

    # the epochs that the keeper has seen: written by it, read by the keeper that replaces it

    def see_epochs(self, names: str) -> None:
        """Redis knows what the children run, in its data of these epochs.

        Args:
            names: of the epochs of all shards, joined.
        """
        self._epochs[:] = _digest(names)

    def has_seen_epochs(self, names: str) -> bool:
        """Whether these epochs are the last ones that were seen."""
        return self._epochs[:] == _digest(names)

    @property
    def has_seen_any_epochs(self) -> bool:
        """Whether a keeper of this worker has seen any epochs."""
        return any(self._epochs[:])

    # cancelled jobs: written by the keeper, read by the child and the supervisor

    def cancel(self, child: int, slot: int, job_id: str, until: float) -> bool:
        """Request that the job in this slot is interrupted.

        Args:
            until: when its child is killed, on the monotonic clock. The first request counts.

        Returns:
            Whether this is the first request for this job.
        """
        if self._cancel(child, slot)[0] == job_id.encode():
            return False
        _CANCEL.pack_into(self._cancels, (child * self._slots + slot) * _CANCEL.size, job_id.encode(), until)
        return True

    def is_cancelled(self, child: int, slot: int, job_id: str) -> bool:
        """Whether it was requested to interrupt this job in this slot."""
        return self._cancel(child, slot)[0] == job_id.encode()

    def _cancel(self, child: int, slot: int) -> tuple[bytes, float]:
        found: tuple[bytes, float] = _CANCEL.unpack_from(
            self._cancels, (child * self._slots + slot) * _CANCEL.size
        )
        return found


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST).digest()
