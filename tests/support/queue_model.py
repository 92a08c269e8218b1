"""One queue as it should be, for tests of the scripts against a model: what waits, is due, set aside and held."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import redis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant

from queue_app.dispatch import finding, keys, listing, workers
from queue_app.dispatch.queues import Entry
from queue_app.domain.envelope import LANE
from tests.support.bodies import body
from tests.support.epochs import begin_epoch

QUEUE = "mail"
HOLDERS = ["w1.1", "w1.2", "w2.1"]
PRIORITIES = [-100, 0, 1, 100]
LANES = [LANE, "tenant 7", "é"]
NEED = "|no.such.task"

some = st.integers(1, 6)
holders = st.sampled_from(HOLDERS)
delays = st.sampled_from([None, None, 0.0, 0.5, 1.0, 7.25])


def holding(client: redis.Redis, ids: list[str], *, withdraw: bool = False) -> dict[str, str]:
    """id → the name of its holder."""
    found = finding.withdraw(client, QUEUE, ids) if withdraw else finding.holders_of(client, {QUEUE: ids})
    return {job_id: held.holder for job_id, held in found.items()}


@dataclass
class Job:
    """What the record knows of a job."""

    id: str
    priority: int
    lane: str
    number: int = 1

    @property
    def list(self) -> tuple[int, str]:
        return self.priority, self.lane

    def entry(self, at: float | None) -> Entry:
        text = body(number=self.number, priority=self.priority, lane=self.lane, run_after=at)
        return self.id, at or 0.0, text


@dataclass
class Look:
    """What a sweep has found: the jobs that Redis did not know, whose rows it read after that."""

    stamp: str
    jobs: list[Job]


class Model(RuleBasedStateMachine):
    """One queue as it should be: `ready` lists, `due` times, `aside`, `held` by children.

    Attributes:
        life: what the epochs are bound to; None for the server's run_id.
    """

    client: redis.Redis
    life: str | None = None

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        begin_epoch(self.client, life=self.life)
        self.now = float(round(time.time())) + 1e6
        self.jobs: dict[str, Job] = {}
        self.ready: dict[tuple[int, str], list[str]] = {}
        self.due: dict[str, float] = {}
        self.aside: set[str] = set()  # until a child knows their task
        self.held: dict[str, list[str]] = {holder: [] for holder in HOLDERS}
        self.unpushed: list[str] = []  # wait in the record, and nowhere else
        self.dangling: set[str] = set()  # of these: Redis has lost what their child held
        self.lost: set[str] = set()  # all that were held by a child when Redis lost that
        self.pushes: list[tuple[float, list[Entry]]] = []
        self.looks: list[Look] = []
        self.stamps: dict[str, str] = {}  # id → stamp of the last sweep that found it missing
        self.not_direct: set[str] = set()  # ids that a sweep has pushed, or is about to
        self.gone: set[str] = set()  # settled or cancelled
        self.cancelled: set[str] = set()  # since Redis was last emptied
        self.marked_cancelled: set[str] = set()  # of what is held: not to be queued again
        self.paused = False
        self.resumes = 0
        self.steps = 0  # since all was lost

    # the model's own verbs

    def waiting(self) -> list[str]:
        return [i for ids in self.ready.values() for i in ids] + list(self.due) + sorted(self.aside)

    def holder_of(self) -> dict[str, str]:
        return {i: holder for holder, ids in self.held.items() for i in ids}

    def known(self) -> list[str]:
        """What Redis must leave alone."""
        return self.waiting() + list(self.holder_of())

    def put(self, job: Job, at: float | None) -> None:
        if at is None:
            self.ready.setdefault(job.list, []).append(job.id)
        else:
            self.due[job.id] = at

    def remove(self, job_id: str) -> None:
        self.due.pop(job_id, None)
        self.aside.discard(job_id)
        for ids in (*self.ready.values(), self.unpushed):
            if job_id in ids:
                ids.remove(job_id)

    def promote(self) -> None:
        for _, job_id in sorted((at, i) for i, at in self.due.items() if at <= self.now):
            del self.due[job_id]
            self.put(self.jobs[job_id], None)

    def make(self, count: int, priority: int, lane: str) -> list[Job]:
        made = [Job(f"id-{len(self.jobs) + n:04}", priority, lane) for n in range(count)]
        self.jobs.update((job.id, job) for job in made)
        return made

    def at(self, delay: float | None) -> float | None:
        return None if delay is None else self.now + delay

    @staticmethod
    def chosen(data: st.DataObject, ids: Iterable[str]) -> list[str]:
        pool = list(ids)
        return data.draw(st.lists(st.sampled_from(pool), unique=True, min_size=1, max_size=6)) if pool else []

    def of_all(self, data: st.DataObject) -> list[str]:
        """Some of all jobs, and often of those to which something is under way."""
        pools = [self.jobs, self.stamps, self.holder_of(), self.dangling, self.unpushed]
        return self.chosen(data, sorted(data.draw(st.sampled_from([pool for pool in pools if pool]))))

    def entries(self, ids: Iterable[str]) -> list[Entry]:
        return [self.jobs[i].entry(None) for i in ids]

    # what must hold at any time

    def rung(self) -> int:
        return int(self.client.llen(keys.bell(QUEUE)))

    @invariant()
    def every_id_is_in_exactly_one_place(self) -> None:
        self.steps += 1
        found = self.client.hgetall(keys.body(QUEUE))
        pointers = {i: value[1:] for i, value in found.items() if value.startswith("@")}
        assert sorted(found.keys() - pointers.keys()) == sorted(self.waiting())
        of_the_dead = pointers.keys() - self.holder_of().keys()
        assert self.dangling <= of_the_dead <= self.lost
        assert {i: name for i, name in pointers.items() if i not in of_the_dead} == self.holder_of()
        for holder, ids in self.held.items():
            assert sorted(workers.held(self.client, QUEUE, holder)) == sorted(ids)

    @invariant()
    def all_that_waits_can_be_reached(self) -> None:
        listed = []
        for (priority, lane), ids in self.ready.items():
            there = self.client.lrange(keys.ready(QUEUE, priority, lane), 0, -1)
            listed += there
            assert [i for i in there if i in ids] == ids
            assert not ids or lane in self.client.lrange(keys.lanes(QUEUE, priority), 0, -1)
        assert dict(self.client.zrange(keys.due(QUEUE), 0, -1, withscores=True)) == self.due
        assert set(self.client.zrange(keys.unknown_of(QUEUE, NEED), 0, -1)) == self.aside
        found = listing.counts(self.client, [QUEUE])[QUEUE]
        extra = self.client.hlen(keys.body(QUEUE)) - len(self.waiting()) - len(self.holder_of())
        ready = sum(map(len, self.ready.values()))
        assert found[:5] == (
            ready + extra,
            len(self.holder_of()),
            len(self.due),
            len(self.aside),
            len(listed),
        )

    @invariant()
    def nobody_sleeps_while_there_is_work(self) -> None:
        if not self.paused and any(self.ready.values()):
            assert self.rung()
        assert self.rung() <= 8 + self.resumes
