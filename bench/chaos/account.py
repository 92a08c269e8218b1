"""What the record, the effects and the ledgers say at the end, read into memory once for all checks."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from bench.chaos import ledger
from bench.chaos.arena import Arena

#: The key is the first argument: payload is `[["<key>", …], {…}]`.
_JOBS = (
    'SELECT id::text, substring(payload FROM \'^\\[\\["([^"]*)"\'), task, state, attempt, failures, deaths'
    " FROM queue_app_job"
)
_ATTEMPTS = (
    "SELECT job_id::text, number, state, worker_id::text, extract(epoch FROM finished_at)::float8, error"
    " FROM queue_app_attempt ORDER BY job_id, number"
)
_EFFECTS = "SELECT job_id::text, attempt, place, pid, at, key FROM chaos_effect ORDER BY at"
_DEATHS = "SELECT place, pid, at FROM chaos_death"
_DEAD = "SELECT job_id::text, reason FROM queue_app_deadletter WHERE replayed_at IS NULL"


#: Seconds from the effect of a job to the death of its process: at most as long as a job may take until it is recorded.
#: The death is written down first, so that the effect may even be the later one.
SOON, BEFORE = 15.0, 5.0


@dataclass(frozen=True, slots=True)
class Job:
    id: str
    key: str
    task: str
    state: str
    attempt: int
    failures: int
    deaths: int


@dataclass(frozen=True, slots=True)
class Attempt:
    number: int
    state: str
    worker: str
    finished_at: float
    error: str


@dataclass(frozen=True, slots=True)
class Effect:
    job_id: str
    attempt: int
    place: int
    pid: int
    at: float
    key: str


@dataclass(slots=True)
class Account:
    """All of it. Attempts and effects by job id, the latter also in the order of time.

    Attributes:
        killed: (place, pid) of processes that a task has killed → when (epoch seconds).
    """

    ledgers: ledger.Accounts
    jobs: dict[str, Job] = field(default_factory=dict)
    by_key: dict[str, list[Job]] = field(default_factory=lambda: defaultdict(list))
    attempts: dict[str, list[Attempt]] = field(default_factory=lambda: defaultdict(list))
    effects: dict[str, list[Effect]] = field(default_factory=lambda: defaultdict(list))
    timeline: list[Effect] = field(default_factory=list)
    killed: dict[tuple[int, int], list[float]] = field(default_factory=lambda: defaultdict(list))
    dead: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def died_with(self, effect: Effect) -> bool:
        """Whether a task killed the process of this effect soon after it, so that its job may run again."""
        deaths = self.killed.get((effect.place, effect.pid), ())
        return any(-BEFORE <= death - effect.at <= SOON for death in deaths)


def read(arena: Arena) -> Account:
    """Read everything; all writers must have stopped."""
    account = Account(ledger.read(arena.crew.ledgers))
    rows: Any
    for rows in arena.query(_JOBS):
        job = Job(*rows)
        account.jobs[job.id] = job
        account.by_key[job.key].append(job)
    for job_id, *rest in arena.query(_ATTEMPTS):
        account.attempts[job_id].append(Attempt(*rest))
    for job_id, attempt, place, pid, at, key in arena.query(_EFFECTS):
        effect = Effect(job_id, attempt, int(place), pid, at, key)
        account.timeline.append(effect)
        account.effects[job_id].append(effect)
    for place, pid, at in arena.query(_DEATHS):
        account.killed[int(place), pid].append(at)
    for job_id, reason in arena.query(_DEAD):
        account.dead[job_id].append(reason)
    return account
