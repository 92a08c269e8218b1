"""What a duty is: work that the leader does again and again for all workers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from queue_app.maintenance.leader_term import LeaderTerm

P = TypeVar("P")


class Duty(ABC):
    """Work that is repeated. Each leader has its own object of each class, so a duty keeps its state in `self`.

    Attributes:
        name: the key under which Redis keeps the duty's history.
        interval: least seconds between the beginnings of two runs.
        doc: what it does, for people.
        urgent: it is looked at between the runs of all others, each of which may take `MAX_RUN_SECONDS`.
    """

    name: ClassVar[str]
    interval: ClassVar[float]
    doc: ClassVar[str]
    urgent: ClassVar[bool] = False

    #: Templates show attributes of these classes. Without this, they would call the class first.
    do_not_call_in_templates = True

    @abstractmethod
    def run(self, term: LeaderTerm) -> int:
        """Do it once.

        It calls `LeaderTerm.check` before each batch of writes and `LeaderTerm.keep_alive` in every loop, and ends soon
        when `LeaderTerm.out_of_time`. It may be left in the middle, so a repetition must be harmless.

        Returns:
            How many rows or jobs it touched.

        Raises:
            LeadershipLost: this leadership is over, or the process is to end.
            Exception: anything else; the leader logs it and repeats the duty later.
        """

    @classmethod
    def jitter(cls) -> float:
        """Most seconds added to the interval, at random, so that duties do not fall into step."""
        return cls.interval / 4

    @classmethod
    def longest(cls) -> float:
        """Most seconds between the beginnings of two runs, while nothing delays them."""
        return cls.interval + cls.jitter()


@dataclass(slots=True)
class Walk(Generic[P]):
    """A walk through rows in parts. If there are many, it goes over several runs of a duty.

    Attributes:
        position: behind the last row of the part before; None at the beginning.
    """

    position: P | None = None

    def advance(self, term: LeaderTerm, step: Callable[[P | None], tuple[int, P | None]]) -> int:
        """Walk on until the end, or until the run has used up its time. Sets `LeaderTerm.unfinished`.

        Args:
            step: does the part behind a position. Returns how many rows it touched, and the new position, or None at
                the end.

        Returns:
            How many rows were touched.

        Raises:
            As `LeaderTerm.keep_alive`, and as `step`.
        """
        count = 0
        while True:
            term.keep_alive()
            touched, self.position = step(self.position)
            count += touched
            term.unfinished = self.position is not None
            if self.position is None or term.out_of_time():
                return count
