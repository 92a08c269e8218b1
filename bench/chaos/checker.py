"""The promises, one by one, against what the stores hold at the end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import redis

from bench.chaos import tasks
from bench.chaos.account import Account, Job
from bench.chaos.arena import Arena, Fault
from bench.chaos.crew import POISON_AFTER

FINAL = ("succeeded", "failed", "cancelled", "expired")


@dataclass(slots=True)
class Check:
    """One promise.

    Attributes:
        seen: what was counted, in words.
        breaches: who breaks it: (job id or empty, what is wrong).
    """

    name: str
    seen: str
    breaches: list[tuple[str, str]] = field(default_factory=list)


def check(account: Account, faults: list[Fault]) -> list[Check]:
    """Every check on jobs."""
    return [
        _committed(account),
        _rolled_back(account),
        _unknown(account),
        _strangers(account),
        _one_end(account),
        _right_end(account, faults),
        _cancelled(account, faults),
        _numbers(account),
        _atomic(account),
        _at_least_once(account),
        _duplicates(account, faults),
        Check(
            "enqueueing raised nothing but errors of the database",
            f"{account.ledgers.transactions:,} transactions and calls",
            [("", bug) for bug in account.ledgers.bugs],
        ),
    ]


def _ended(jobs: Iterable[Job]) -> list[tuple[str, str]]:
    return [
        (job.id, f"is {job.state}, after {job.attempt} attempts") for job in jobs if job.state not in FINAL
    ]


def _committed(account: Account) -> Check:
    keys = account.ledgers.committed
    breaches = [
        ("", f"{key} was committed and is not there") for key in sorted(keys) if key not in account.by_key
    ]
    jobs = [job for key in keys for job in account.by_key.get(key, ())]
    breaches += [
        (found[0].id, f"{key} is there {len(found)} times")
        for key, found in account.by_key.items()
        if len(found) > 1
    ]
    breaches += _ended(jobs)
    final = sum(job.state in FINAL for job in jobs)
    return Check("committed enqueues = jobs in a final state", f"{len(keys):,} = {final:,}", breaches)


def _rolled_back(account: Account) -> Check:
    keys = account.ledgers.rolled_back
    worked = {effect.key for effect in account.timeline}
    breaches = [
        (job.id, f"{key} was rolled back and is there") for key in keys for job in account.by_key.get(key, ())
    ]
    breaches += [("", f"{key} was rolled back and has run") for key in keys & worked]
    return Check("rolled back = none present, none run", f"{len(keys):,} rolled back", breaches)


def _unknown(account: Account) -> Check:
    """Transactions whose answer was lost: all of their jobs, or none; and what is there must end."""
    breaches, there = [], 0
    for name, keys in account.ledgers.unknown.items():
        jobs = [job for key in keys for job in account.by_key.get(key, ())]
        there += len(jobs)
        breaches += _ended(jobs)
        if jobs and len(jobs) != len(keys):
            breaches.append((jobs[0].id, f"of the {len(keys)} jobs of {name} only {len(jobs)} are there"))
    total = sum(map(len, account.ledgers.unknown.values()))
    seen = f"{len(account.ledgers.unknown):,} transactions: {there:,} of {total:,} jobs there"
    return Check("answer to the commit lost: all its jobs or none, and these end", seen, breaches)


def _strangers(account: Account) -> Check:
    known = account.ledgers.committed | account.ledgers.rolled_back
    known.update(key for keys in account.ledgers.unknown.values() for key in keys)
    breaches = [
        (job.id, f"{job.key!r} was enqueued by nobody")
        for job in account.jobs.values()
        if job.key not in known
    ]
    return Check("no job that nobody enqueued", f"{len(account.jobs):,} jobs", breaches)


def _one_end(account: Account) -> Check:
    """One final state; exactly one success if it is `succeeded`, none if not; a dead letter if it is `failed`."""
    breaches = []
    for job in account.jobs.values():
        attempts = account.attempts.get(job.id, [])
        good = [a.number for a in attempts if a.state == "succeeded"]
        if len(good) != (job.state == "succeeded"):
            breaches.append((job.id, f"is {job.state} with {len(good)} succeeded attempts"))
        elif good and good[0] != job.attempt:
            breaches.append((job.id, f"attempt {good[0]} succeeded, and {job.attempt} came after it"))
        if len(account.dead.get(job.id, ())) != (job.state == "failed"):
            breaches.append((job.id, f"is {job.state} with {len(account.dead[job.id])} open dead letters"))
    attempts_made = sum(map(len, account.attempts.values()))
    return Check("no job in two final states, or recorded twice", f"{attempts_made:,} attempts", breaches)


def _inflight(faults: list[Fault]) -> set[str]:
    return set().union(*(fault.inflight for fault in faults))


def _right_end(account: Account, faults: list[Fault]) -> Check:
    """Quarantined is what kills its process, and else only what was in flight at as many faults."""
    breaches, poisoned = [], 0
    counts: dict[str, int] = {}
    for job in account.jobs.values():
        counts[job.state] = counts.get(job.state, 0) + 1
        kind = tasks.BY_TASK.get(job.task)
        if job.state not in FINAL or job.state == "cancelled" or kind is None:
            continue
        if job.state == "failed" and account.dead.get(job.id) == ["poison"]:
            poisoned += 1
            if kind is not tasks.KINDS["poison"]:
                met = sum(job.id in fault.inflight for fault in faults)
                if met < POISON_AFTER:
                    breaches.append((job.id, f"was quarantined, and was in flight at {met} faults alone"))
            continue
        if job.state != kind.end:
            breaches.append((job.id, f"a job of {job.task} is {job.state}, not {kind.end}"))
        elif kind is tasks.KINDS["poison"]:
            breaches.append((job.id, f"has killed its process {job.deaths} times and was not quarantined"))
    seen = ", ".join(f"{count:,} {state}" for state, count in sorted(counts.items()))
    return Check(
        "each ended as its task does", seen + (f" ({poisoned} poison)" if poisoned else ""), breaches
    )


def _cancelled(account: Account, faults: list[Fault]) -> Check:
    """What was reported as cancelled has no effect after that, but for an attempt that had been given up for lost."""
    done, asked = account.ledgers.cancelled, account.ledgers.may_be_cancelled
    breaches, inflight = [], _inflight(faults)
    for job_id, at in done.items():
        job = account.jobs.get(job_id)
        if job is None or job.state != "cancelled":
            breaches.append((job_id, f"was cancelled, and is {job.state if job else 'not there'}"))
        lost = {a.number for a in account.attempts.get(job_id, ()) if a.state == "lost"}
        for effect in account.effects.get(job_id, ()):
            if effect.at > at and not (effect.attempt in lost and job_id in inflight):
                breaches.append((job_id, f"had an effect {effect.at - at:.3f} s after it was cancelled"))
    ended = [job.id for job in account.jobs.values() if job.state == "cancelled"]
    breaches += [(i, "was cancelled by nobody") for i in ended if i not in done and i not in asked]
    seen = f"{len(done):,} cancelled at once, {len(ended) - len(done):,} of {len(asked):,} that were asked to end"
    return Check("cancelled jobs have no effect after that", seen, breaches)


def _numbers(account: Account) -> Check:
    breaches = []
    for job in account.jobs.values():
        numbers = [a.number for a in account.attempts.get(job.id, ())]
        if numbers != list(range(1, job.attempt + 1)):
            breaches.append((job.id, f"attempts {numbers}, and the row says {job.attempt}"))
    for job_id in account.attempts.keys() - account.jobs.keys():
        breaches.append((job_id, "has attempts and no row"))
    lost = sum(a.state == "lost" for found in account.attempts.values() for a in found)
    return Check("attempts are numbered 1…n without gaps", f"{lost:,} lost attempts among them", breaches)


def _is_atomic(job: Job) -> bool:
    kind = tasks.BY_TASK.get(job.task)
    return kind is not None and kind.atomic


def _atomic(account: Account) -> Check:
    breaches, total = [], 0
    for job in filter(_is_atomic, account.jobs.values()):
        total += 1
        effects = account.effects.get(job.id, ())
        if len(effects) != (job.state == "succeeded"):
            breaches.append((job.id, f"is {job.state} with {len(effects)} effects"))
        elif effects and effects[0].attempt != job.attempt:
            breaches.append(
                (job.id, f"the effect is of attempt {effects[0].attempt}, the success {job.attempt}")
            )
    return Check("atomic effects exactly once if succeeded, else none", f"{total:,} atomic jobs", breaches)


def _at_least_once(account: Account) -> Check:
    plain = [job for job in account.jobs.values() if not _is_atomic(job) and job.state == "succeeded"]
    breaches = [(job.id, "succeeded without its effect") for job in plain if not account.effects.get(job.id)]
    breaches += [
        (e.job_id, "has an effect and no row") for e in account.timeline if e.job_id not in account.jobs
    ]
    return Check("other effects at least once if succeeded", f"{len(plain):,} jobs", breaches)


def _duplicates(account: Account, faults: list[Fault]) -> Check:
    """Not only may there be no more than there were jobs in flight: each must have been in flight itself, at a fault or
    beside a task that killed its process. Attempts that were interrupted may leave an effect each."""
    inflight = _inflight(faults)
    allowed = sum(len(fault.inflight) for fault in faults)
    count, breaches = 0, []
    for job in account.jobs.values():
        effects = account.effects.get(job.id, ())
        interrupted = sum(a.state == "cancelled" for a in account.attempts.get(job.id, ()))
        extra = len(effects) - (job.state == "succeeded") - interrupted
        beside = sum(map(account.died_with, effects))
        allowed += beside
        if _is_atomic(job) or extra <= 0:
            continue
        count += extra
        if job.id not in inflight and not beside:
            breaches.append((job.id, f"has {extra} effects too many, and was not in flight at any fault"))
    if count > allowed:
        breaches.append(("", f"{count} effects too many"))
    return Check(
        "effects too many ≤ jobs in flight at the faults, and of those", f"{count:,} ≤ {allowed:,}", breaches
    )


def leftovers(arena: Arena) -> Check:
    """What is in Redis when every job has ended and every worker has stopped."""
    from bench.runtime.leaks import undocumented_keys

    #: What stays by design: the names of the queues, what expires or is trimmed, and counters.
    stays = (
        ":bell",
        ":epoch",
        ":announced",
        ":layout",
        ":queues",
        ":leader",
        ":cancelled",
        ":restored",
        ":duties",
    )
    stays += (":stats", ":ended")
    with arena.stores.redis.client() as raw:
        breaches = [("", f"the undocumented key {key}") for key in undocumented_keys(raw)]
    with arena.client() as client:
        names = sorted(str(key) for key in client.scan_iter(count=1_000))
        for name in names:
            if (
                not name.endswith(stays)
                and ":fence:" not in name
                and ":pushed:" not in name
                and not any(name in text for _, text in breaches)
            ):
                breaches.append(("", f"{name} ({client.type(name)}: {_content(client, name)})"))
    return Check(
        "no key left in Redis but the documented", f"{len(names)} keys: {', '.join(names)}", breaches
    )


def _content(client: redis.Redis, name: str) -> str:
    kind = client.type(name)
    read = {
        "hash": lambda: client.hgetall(name),
        "set": lambda: client.smembers(name),
        "list": lambda: client.lrange(name, 0, 4),
        "zset": lambda: client.zrange(name, 0, 4, withscores=True),
    }.get(kind, lambda: client.get(name))
    return str(read())[:300]
