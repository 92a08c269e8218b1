"""What the database says of the demo's jobs, read once at the end; and figures from it."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from queue_app.models import Attempt, DeadLetter, Job

#: Ids in one query: databases take so many parameters and not more.
CHUNK = 500


@dataclass(frozen=True, slots=True)
class Figures:
    """Of a queue, or of all.

    Attributes:
        retries: attempts that followed a failed one by themselves.
        dead, replayed: dead letters.
        waits: seconds from the time when a job might start to the start of its first attempt.
        runs: seconds that attempts ran.
        per_second: attempts from the first start to the last end.
    """

    jobs: int
    attempts: int
    retries: int
    dead: int
    replayed: int
    waits: list[float]
    runs: list[float]
    per_second: float


class Record:
    """The rows of some jobs.

    Args:
        ids: of the jobs.
        due: id → epoch seconds before which a job must not start, of delayed ones: their rows forget it.

    Attributes:
        jobs: by id.
        attempts: by job id, in order.
        letters: dead letters, oldest first.
        lost: ids of jobs of which an attempt's process died.
    """

    def __init__(self, ids: Iterable[str], due: dict[str, float]) -> None:
        ids = list(ids)
        self._due = due
        self.jobs = {str(job.pk): job for part in _chunks(ids) for job in Job.objects.filter(pk__in=part)}
        self.attempts: dict[str, list[Attempt]] = defaultdict(list)
        self.letters: list[DeadLetter] = []
        for part in _chunks(ids):
            for attempt in Attempt.objects.filter(job_id__in=part).order_by("job_id", "number"):
                self.attempts[str(attempt.job_id)].append(attempt)
            self.letters += DeadLetter.objects.filter(job_id__in=part).order_by("id")
        self.lost = {i for i, found in self.attempts.items() if any(a.state == "lost" for a in found)}

    @staticmethod
    def existing(ids: Iterable[str]) -> list[str]:
        """Those ids of which there is a job."""
        return [
            str(pk)
            for part in _chunks(list(ids))
            for pk in Job.objects.filter(pk__in=part).values_list("pk", flat=True)
        ]

    def queues(self) -> list[str]:
        """The names of the queues, sorted."""
        return sorted({job.queue for job in self.jobs.values()})

    def totals(self) -> Figures:
        """The figures of all jobs."""
        return self._figures(set(self.jobs))

    def of_queue(self, queue: str) -> Figures:
        """The figures of one queue."""
        return self._figures({i for i, job in self.jobs.items() if job.queue == queue})

    def _figures(self, ids: set[str]) -> Figures:
        attempts = [(i, a) for i in ids for a in self.attempts.get(i, [])]
        letters = [letter for letter in self.letters if str(letter.job_id) in ids]
        replays = Counter(str(letter.job_id) for letter in letters if letter.replayed_at is not None)
        # A job's first attempt and the first one after each replay are no retries.
        begun = sum(1 + replays[i] for i in ids if self.attempts.get(i))
        starts = [a.started_at.timestamp() for _, a in attempts if a.started_at]
        ends = [a.finished_at.timestamp() for _, a in attempts]
        span = max(ends) - min(starts) if starts else 0.0
        return Figures(
            jobs=len(ids),
            attempts=len(attempts),
            retries=len(attempts) - begun,
            dead=len(letters),
            replayed=replays.total(),
            waits=[
                max(0.0, a.started_at.timestamp() - self._due.get(i, self.jobs[i].enqueued_at.timestamp()))
                for i, a in attempts
                if a.number == 1 and a.started_at
            ],
            runs=[(a.finished_at - a.started_at).total_seconds() for _, a in attempts if a.started_at],
            per_second=len(attempts) / span if span else 0.0,
        )


def percentiles(values: list[float]) -> tuple[float, float] | None:
    """The 50th and the 95th percentile; None of nothing."""
    if not values:
        return None
    if len(values) == 1:
        return values[0], values[0]
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    return cuts[9], cuts[18]


def _chunks(ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), CHUNK):
        yield ids[start : start + CHUNK]
