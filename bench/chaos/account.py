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
_DEAD = "SELECT job_id::text, reason FROM queue_app_deadletter WHERE replayed_at IS NULL"


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
    """All of it. Attempts and effects by job id, the latter also in the order of time."""

    ledgers: ledger.Accounts
    jobs: dict[str, Job] = field(default_factory=dict)
    by_key: dict[str, list[Job]] = field(default_factory=lambda: defaultdict(list))
    attempts: dict[str, list[Attempt]] = field(default_factory=lambda: defaultdict(list))
    effects: dict[str, list[Effect]] = field(default_factory=lambda: defaultdict(list))
    timeline: list[Effect] = field(default_factory=list)
    dead: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def read(arena: Arena) -> Account:
    """Read everything; nobody may write any more."""
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
    for job_id, reason in arena.query(_DEAD):
        account.dead[job_id].append(reason)
    return account
