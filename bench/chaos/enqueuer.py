"""One enqueuer: `python -m bench.chaos.enqueuer NAME SEED RATE LEDGER`, until TERM.

It enqueues one job, many, in transactions with savepoints, and rolls some of all that back; now and then it cancels
some of its jobs. What it commits it writes into its ledger; an error of the database makes the transaction under way
one whose end is unknown.
"""

from __future__ import annotations

import random
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import django

from bench.chaos.ledger import COMMITTED, ROLLED_BACK, UNKNOWN, Ledger, key

#: Jobs waiting now above which nothing is enqueued.
BACKLOG = 4_000
#: How often something is cancelled after a transaction, and at most how many jobs.
CANCELS, CANCELLED = 0.1, 6
#: Of how many jobs: the last of all, and the last of those that are long about it.
RECENT, LATER, LONG = 20, 40, ("delayed", "slow", "snoozes", "flaky", "kills")


class _Enough(Exception):
    """Rolls a transaction or savepoint back."""


@dataclass(slots=True)
class Step:
    """A call of `enqueue_many` (or `enqueue`, for one job), or a savepoint with steps of its own."""

    kind: str = ""
    count: int = 0
    steps: list[Step] = field(default_factory=list)
    rolled_back: bool = False


class Enqueuer:
    """Enqueues until told to stop.

    Args:
        name: unlike that of any other, also of its predecessor.
        rate: jobs a second.
    """

    def __init__(self, name: str, seed: int, rate: float, ledger: Ledger) -> None:
        from bench.chaos.tasks import KINDS

        self._kinds = KINDS
        self._names = list(KINDS)
        self._weights = [kind.weight for kind in KINDS.values()]
        self._name = name
        self._dice = random.Random(f"{seed} {name}")
        self._rate = rate
        self._ledger = ledger
        self._stopping = False
        self._recent: deque[str] = deque(maxlen=RECENT)  # ids of jobs, some of which were rolled back
        self._later: deque[str] = deque(maxlen=LATER)

    def stop(self, *_: object) -> None:
        """Told to stop: after the transaction under way."""
        self._stopping = True

    def run(self) -> None:
        """Enqueue at the rate given; what was missed while a store was away is not made up for."""
        due = look_at = time.monotonic()
        number = 0
        while not self._stopping:
            if time.monotonic() >= look_at:
                if self._too_many():
                    time.sleep(0.5)
                    continue
                look_at = time.monotonic() + 1.0
            number += 1
            count = self._transaction(f"{self._name}-{number}")
            if self._recent and self._dice.random() < CANCELS:
                self._cancel(f"{self._name}-{number}")
            due = max(due + count / self._rate, time.monotonic() - 0.5)
            time.sleep(max(0.0, min(due - time.monotonic(), 1.0)))

    @staticmethod
    def _too_many() -> bool:
        """Whether so much waits that the workers of this machine cannot keep up: then more of it proves nothing."""
        from django.db import Error, connection

        from queue_app.models import Job

        try:
            return Job.objects.waiting_now().count() > BACKLOG
        except Error:
            connection.close()
            return False

    def _transaction(self, name: str) -> int:
        """One transaction, or a call outside any. Returns how many jobs it was about."""
        dice = self._dice
        plain = dice.random() < 0.5
        steps = [self._call(many=dice.random() < 0.3)] if plain else self._steps(2)
        rolled_back = not plain and dice.random() < 0.3
        fates = list(_fates(steps))
        self._ledger.begin(name, len(fates), [n for n, lost in enumerate(fates) if lost])
        from django.db import Error, connection, transaction

        try:
            if plain:
                self._enqueue(name, steps, 0)
            else:
                with transaction.atomic():
                    self._enqueue(name, steps, 0)
                    if rolled_back:
                        raise _Enough
        except _Enough:
            self._ledger.end(name, ROLLED_BACK)
        except Error as error:
            self._ledger.end(name, UNKNOWN, str(error).strip())
            connection.close()
            time.sleep(0.2)
        except Exception as error:
            self._ledger.bug(name, repr(error))
            self._ledger.end(name, UNKNOWN, repr(error))
            connection.close()
        else:
            self._ledger.end(name, COMMITTED)
        return len(fates)

    def _cancel(self, name: str) -> None:
        """Cancel some of the last jobs, in any state."""
        from django.db import Error, connection

        from queue_app.exceptions import StoreUnavailable
        from queue_app.lifecycle import operate

        known = [*self._recent, *self._later]
        ids = self._dice.sample(known, min(len(known), self._dice.randint(1, CANCELLED)))
        self._ledger.cancel(name, ids)
        try:
            answer = operate.cancel(ids)
        except StoreUnavailable:
            return
        except Error:
            connection.close()
            time.sleep(0.2)
        except Exception as error:
            self._ledger.bug(name, f"cancelling: {error!r}")
            connection.close()
        else:
            self._ledger.cancelled(name, answer.done, answer.requested)

    def _steps(self, depth: int) -> list[Step]:
        dice = self._dice
        steps = []
        for _ in range(dice.randint(1, 4)):
            if depth and dice.random() < 0.3:
                steps.append(Step(steps=self._steps(depth - 1), rolled_back=dice.random() < 0.4))
            else:
                steps.append(self._call(many=dice.random() < 0.2))
        return steps

    def _call(self, *, many: bool) -> Step:
        (kind,) = self._dice.choices(self._names, self._weights)
        most = self._kinds[kind].most
        return Step(kind, self._dice.randint(2, most) if many and most > 1 else 1)

    def _enqueue(self, name: str, steps: list[Step], number: int) -> int:
        """Returns the number that the next job of the transaction gets."""
        from django.db import transaction

        for step in steps:
            if step.steps:
                try:
                    with transaction.atomic():
                        after = self._enqueue(name, step.steps, number)
                        if step.rolled_back:
                            raise _Enough
                except _Enough:
                    pass
                number = after
                continue
            task = self._kinds[step.kind].task
            if self._dice.random() < 0.1:
                task = task.using(priority=self._dice.choice(["high", "low"]))
            if step.kind == "delayed":
                task = task.using(run_after=self._dice.uniform(0.2, 14.0))
            calls = [self._arguments(step.kind, key(name, number + n)) for n in range(step.count)]
            if step.count == 1:
                results = [task.enqueue(*calls[0])]
            else:
                results = task.enqueue_many([(args, {}) for args in calls])
            (self._later if step.kind in LONG else self._recent).extend(result.id for result in results)
            number += step.count
        return number

    def _arguments(self, kind: str, its_key: str) -> tuple[Any, ...]:
        dice = self._dice
        if kind in ("quick", "async", "delayed", "atomic"):
            return its_key, dice.choice([0.0, 0.001, 0.01, 0.04])
        if kind == "large":
            return its_key, 0.0, "x" * 9_000  # longer than BODY_LIMIT: read from the record by the worker
        if kind == "slow":
            return its_key, round(dice.uniform(0, 1.5), 3), round(dice.uniform(0, 1.0), 3)
        if kind in ("flaky", "atomic-flaky", "kills"):
            return its_key, dice.randint(1, 2)
        if kind == "snoozes":
            return its_key, round(dice.uniform(0.2, 3.0), 3)
        return (its_key,)


def _fates(steps: list[Step], lost: bool = False) -> Iterator[bool]:
    """For each job, in order, whether it is rolled back with a savepoint."""
    for step in steps:
        if step.steps:
            yield from _fates(step.steps, lost or step.rolled_back)
        else:
            yield from [lost] * step.count


def main(arguments: list[str]) -> None:
    name, seed, rate, path = arguments
    django.setup()
    enqueuer = Enqueuer(name, int(seed), float(rate), Ledger(Path(path)))
    signal.signal(signal.SIGTERM, enqueuer.stop)
    enqueuer.run()


if __name__ == "__main__":
    main(sys.argv[1:])
