"""The checker of the chaos driver finds what it is there to find; else a run that passes would mean nothing."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from bench.chaos import checker, ledger, recovery
from bench.chaos.account import Account, Attempt, Effect, Job
from bench.chaos.arena import Fault
from bench.chaos.plan import KINDS, Plan

QUICK, FAILS = "bench.chaos.tasks.quick", "bench.chaos.tasks.fails"
POISON = "bench.chaos.tasks.poison"
ATOMIC = "bench.chaos.tasks.atomic_quick"


def job(
    number: int = 1, *, task: str = QUICK, state: str = "succeeded", attempt: int = 1, deaths: int = 0
) -> Job:
    return Job(f"id-{number}", f"e-1:{number}", task, state, attempt, 0, deaths)


def attempt(number: int = 1, state: str = "succeeded", at: float = 10.0, worker: str = "w") -> Attempt:
    return Attempt(number, state, worker, at, "")


def effect(number: int = 1, *, of: int = 1, place: int = 0, pid: int = 1, at: float = 10.0) -> Effect:
    return Effect(f"id-{number}", of, place, pid, at, f"e-1:{number}")


def account(
    jobs: list[Job], attempts: dict[str, list[Attempt]], effects: list[Effect], **ledgers: object
) -> Account:
    result = Account(ledger.Accounts(**({"committed": {j.key for j in jobs}} | ledgers)))  # type: ignore[arg-type]
    for one in jobs:
        result.jobs[one.id] = one
        result.by_key[one.key].append(one)
    result.attempts.update(attempts)
    if any(one.task == POISON for one in jobs):
        result.dead["id-1"].append("poison")
    for found in effects:
        result.effects[found.job_id].append(found)
        result.timeline.append(found)
    return result


def breached(found: Account, faults: list[Fault] | None = None) -> list[str]:
    """The names of the checks that found something."""
    return [check.name for check in checker.check(found, faults or []) if check.breaches]


def test_a_run_without_a_flaw_passes() -> None:
    dead = account(
        [job(task=FAILS, state="failed", attempt=2)],
        {"id-1": [attempt(1, "failed"), attempt(2, "failed")]},
        [],
    )
    dead.dead["id-1"].append("exhausted")
    assert breached(dead) == []
    assert breached(account([job()], {"id-1": [attempt()]}, [effect()])) == []
    assert breached(account([job(task=ATOMIC)], {"id-1": [attempt()]}, [effect()])) == []
    again = account([job(attempt=2)], {"id-1": [attempt(1, "lost"), attempt(2)]}, [effect(), effect(of=2)])
    assert breached(again, [Fault(1, "child", inflight=frozenset({"id-1"}))]) == []
    cancelled = account([job(state="cancelled", attempt=0)], {}, [], cancelled={"id-1": 9.0})
    assert breached(cancelled) == []
    interrupted = account(
        [job(state="cancelled")], {"id-1": [attempt(1, "cancelled")]}, [effect()], may_be_cancelled={"id-1"}
    )
    assert breached(interrupted) == []
    deadly = account(
        [job(task=POISON, state="failed", attempt=5, deaths=5)],
        {"id-1": [attempt(n, "lost") for n in range(1, 6)]},
        [],
    )
    assert breached(deadly) == []


GOOD = {"id-1": [attempt()]}


@pytest.mark.parametrize(
    ("found", "name"),
    [
        (
            account([job()], GOOD, [effect()], committed={"e-1:1", "e-1:2"}),
            "committed enqueues = jobs in a final",
        ),
        (account([job(state="queued", attempt=0)], {}, []), "committed enqueues = jobs in a final"),
        (account([job()], GOOD, [effect()], rolled_back={"e-1:1"}), "rolled back = none"),
        (account([], {}, [effect()], rolled_back={"e-1:1"}), "rolled back = none"),
        (
            account([job()], GOOD, [effect()], committed=set(), unknown={"e-1": ["e-1:1", "e-1:2"]}),
            "answer to the commit lost",
        ),
        (
            account([job(state="running")], {}, [], committed=set(), unknown={"e-1": ["e-1:1"]}),
            "answer to the commit lost",
        ),
        (account([job()], GOOD, [effect()], committed=set()), "no job that nobody enqueued"),
        (
            account([job(attempt=2)], {"id-1": [attempt(), attempt(2)]}, [effect()]),
            "no job in two final states",
        ),
        (account([job()], {"id-1": [attempt(1, "failed")]}, [effect()]), "no job in two final states"),
        (
            account([job(task=FAILS, state="failed")], {"id-1": [attempt(1, "failed")]}, []),
            "no job in two final",
        ),
        (account([job(task=FAILS)], GOOD, [effect()]), "each ended as its task does"),
        (
            account([job(attempt=3)], {"id-1": [attempt(1, "lost"), attempt(3)]}, [effect()]),
            "attempts are numbered",
        ),
        (account([job(task=ATOMIC)], GOOD, []), "atomic effects exactly once"),
        (account([job(task=ATOMIC)], GOOD, [effect(), effect()]), "atomic effects exactly once"),
        (account([job(task=ATOMIC)], GOOD, [effect(of=2)]), "atomic effects exactly once"),
        (
            account([job(task=ATOMIC, state="failed")], {"id-1": [attempt(1, "failed")]}, [effect()]),
            "atomic effects exactly once",
        ),
        (account([job()], GOOD, []), "other effects at least once"),
        (account([job()], GOOD, [effect(), effect()]), "effects too many"),
        (account([], {}, [], bugs=["e-1: ValueError()"]), "enqueueing raised nothing"),
        (account([job()], GOOD, [effect()], cancelled={"id-1": 12.0}), "cancelled jobs have no effect"),
        (
            account(
                [job(state="cancelled")], {"id-1": [attempt(1, "lost")]}, [effect()], cancelled={"id-1": 9.0}
            ),
            "cancelled jobs have no effect",
        ),
        (account([], {}, [], cancelled={"id-1": 9.0}), "cancelled jobs have no effect"),
        (account([job(state="cancelled", attempt=0)], {}, []), "cancelled jobs have no effect"),
    ],
)
def test_each_flaw_is_found(found: Account, name: str) -> None:
    names = breached(found)
    assert [n for n in names if n.startswith(name)], names


def test_what_was_not_in_flight_may_not_run_twice_however_much_else_was() -> None:
    twice = account([job()], GOOD, [effect(), effect()])
    others = Fault(1, "redis-flush", inflight=frozenset({"id-7", "id-8", "id-9"}))
    assert breached(twice, [others]) == ["effects too many ≤ jobs in flight at the faults, and of those"]


def test_a_straggler_of_a_cancelled_job_was_in_flight_at_a_fault() -> None:
    """Its worker was frozen, the job was taken from it, cancelled while it waited, and the worker went on."""
    found = account(
        [job(state="cancelled")], {"id-1": [attempt(1, "lost")]}, [effect()], cancelled={"id-1": 9.0}
    )
    assert breached(found, [Fault(1, "freeze", inflight=frozenset({"id-1"}))]) == []
    other = Fault(1, "freeze", inflight=frozenset({"id-7"}))
    assert "cancelled jobs have no effect after that" in breached(found, [other])


def test_what_ran_beside_a_task_that_killed_its_process_may_run_again_and_nothing_else() -> None:
    twice = [effect(at=10.0, pid=7), effect(of=2, pid=8, at=11.0)]
    found = account([job(attempt=2)], {"id-1": [attempt(1, "lost"), attempt(2)]}, twice)
    assert breached(found) == ["effects too many ≤ jobs in flight at the faults, and of those"]
    found.killed[0, 9].append(10.2)
    assert breached(found) == ["effects too many ≤ jobs in flight at the faults, and of those"]
    found.killed[0, 7].append(10.2)
    assert breached(found) == []


def test_who_ran_beside_a_killer_is_not_quarantined() -> None:
    lost = {"id-1": [attempt(n, "lost") for n in range(1, 6)]}
    found = account([job(state="failed", attempt=5, deaths=5)], lost, [])
    found.dead["id-1"].append("poison")
    assert breached(found) == ["each ended as its task does"]
    kills = [Fault(n, "child", inflight=frozenset({"id-1"})) for n in range(5)]
    assert breached(found, kills) == []
    survivor = account([job(task=POISON, state="failed", attempt=1)], {"id-1": [attempt(1, "failed")]}, [])
    survivor.dead["id-1"][:] = ["exhausted"]
    assert breached(survivor) == ["each ended as its task does"]


def test_a_ledger_tells_committed_from_rolled_back_from_unknown(tmp_path: Path) -> None:
    book = ledger.Ledger(tmp_path / "ledger")
    book.begin("a", 3, [1])
    book.end("a", ledger.COMMITTED)
    book.begin("b", 2, [])
    book.end("b", ledger.ROLLED_BACK)
    book.begin("c", 2, [0])
    book.end("c", ledger.UNKNOWN, "server closed the connection")
    book.begin("d", 1, [])  # killed in it
    book.cancel("a", ["1", "2", "3"])
    book.cancelled("a", ["1"], ["2"])
    book.cancel("b", ["4"])  # Redis was away
    read = ledger.read([tmp_path / "ledger"])
    assert read.committed == {"a:0", "a:2"}
    assert read.rolled_back == {"a:1", "b:0", "b:1", "c:0"}
    assert read.unknown == {"c": ["c:1"], "d": ["d:0"]}
    assert read.transactions == 4
    assert read.cancelled.keys() == {"1"} and read.may_be_cancelled == {"2", "4"}


def test_a_recovery_ends_when_another_process_works_at_the_victims_place() -> None:
    kill = Fault(
        1,
        "child",
        began=100.0,
        ended=100.0,
        places=(0,),
        workers=("w",),
        inflight=frozenset({"id-1"}),
        new_process=True,
    )
    effects = [
        effect(1, pid=7, at=99.0),
        effect(1, pid=7, at=100.5),  # a sibling of the dead one
        effect(1, pid=8, at=100.9, place=1),
        effect(1, pid=9, at=101.5),
    ]
    found = account([job(attempt=2)], {"id-1": [attempt(1, "lost", at=100.25), attempt(2, at=102)]}, effects)
    figures = recovery.measure(found, [kill])["child"]
    assert (figures.count, figures.back, figures.flow) == (1, [0.25], [1.5])
    disturbed = Fault(2, "freeze", began=101.0, ended=106.0, places=(0,))
    assert recovery.measure(found, [kill, disturbed])["child"].flow == []


def test_faults_are_those_of_the_seed_and_each_kind_comes_before_any_comes_twice() -> None:
    plan = Plan(seconds=120, seed=7)
    faults = plan.faults()
    assert faults == Plan(seconds=120, seed=7).faults() != Plan(seconds=120, seed=8).faults()
    assert {fault.kind for fault in faults[: len(KINDS)]} == set(KINDS)
    assert all(0 < a.at < b.at < 120 for a, b in pairwise(faults))
    assert 40 <= len(faults) <= 60
