"""The options of a worker, checked before anything is started."""

from __future__ import annotations

import random
from dataclasses import dataclass

from queue_app.domain.names import check_queue
from queue_app.exceptions import InvalidOption


@dataclass(frozen=True, slots=True)
class QueueChoice:
    """Which queues to serve: in strict order, or each with a weight.

    Attributes:
        names: of the queues, in the order given.
        weights: how often each queue comes first, relative to the others; None for strict order.
    """

    names: tuple[str, ...]
    weights: tuple[int, ...] | None

    @classmethod
    def parse(cls, text: str) -> QueueChoice:
        """Parse the option `--queues`.

        Args:
            text: `mail,default` (strict order) or `mail:6,default:1` (weights; 1 for a queue without one).

        Raises:
            InvalidOption: its text names the part that is wrong.
        """
        names: list[str] = []
        weights: list[int] = []
        weighted = False
        for part in text.split(","):
            name, colon, weight = part.strip().partition(":")
            check_queue(name)
            if name in names:
                raise InvalidOption(f"--queues names {name!r} twice.")
            if colon:
                weighted = True
                if not weight.isdecimal() or not 1 <= int(weight) <= 1000:
                    raise InvalidOption(
                        f"--queues gives {name!r} the weight {weight!r}; use a whole number from 1 to 1000."
                    )
            names.append(name)
            weights.append(int(weight) if colon else 1)
        return cls(tuple(names), tuple(weights) if weighted else None)

    def order(self) -> list[str]:
        """The queues in the order in which the next claim asks them. With weights, it is drawn anew each time."""
        if self.weights is None or len(self.names) == 1:
            return list(self.names)
        # Weighted random order (Efraimidis and Spirakis, 2006): the largest of u^(1/w) comes first.
        keyed = [(random.random() ** (1 / w), n) for n, w in zip(self.names, self.weights, strict=True)]
        return [name for _, name in sorted(keyed, reverse=True)]

    def __str__(self) -> str:
        if self.weights is None:
            return ",".join(self.names)
        return ",".join(f"{n}:{w}" for n, w in zip(self.names, self.weights, strict=True))


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """The options of `runworker`.

    Attributes:
        worker_id: unique for each start of a worker.
        queues: which queues to serve.
        processes: number of children.
        slots: jobs that each child runs at once; 1 runs them in the main thread.
        max_jobs: number of jobs after which a child is replaced; None: never.
        max_memory: MB of resident memory above which a child is replaced; None: never.
        grace: seconds that running jobs have to end when the worker is told to stop.
        maintenance: whether the worker may be elected to do the maintenance duties.
    """

    worker_id: str
    queues: QueueChoice
    processes: int = 1
    slots: int = 1
    max_jobs: int | None = None
    max_memory: int | None = None
    grace: float = 25.0
    maintenance: bool = True
