"""The Lua scripts against a model: several children claim, settle and give back in any order, with cancellations,
pauses, delays and losses in between. No id is lost, none is handed out twice, and the order is kept.

Time is the model's own, far ahead of the clock of Redis, so that nothing becomes due by itself.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

import pytest
import redis
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from queue_app.dispatch import body, connection, keys, queues, workers
from queue_app.dispatch.queues import Entry

QUEUE = "mail"
HOLDERS = ["w1.1", "w1.2", "w2.1"]
PRIORITIES = [-100, 0, 1, 100]
LANES = [body.LANE, "tenant 7", "é"]

some = st.integers(1, 6)
holders = st.sampled_from(HOLDERS)
delays = st.sampled_from([None, None, 0.0, 0.5, 1.0, 7.25])


def holding(client: redis.Redis, ids: list[str], *, withdraw: bool = False) -> dict[str, str]:
    """id → the name of its holder."""
    found = queues.holders_of(client, QUEUE, ids, withdraw=withdraw)
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
        text = body.encode(
            task="tests.tasks.noop",
            number=self.number,
            failures=0,
            deaths=0,
            max_attempts=1,
            priority=self.priority,
            lane=self.lane,
            enqueued_at=1.0,
            run_after=at,
            started_at=None,
            timeout=None,
            backend="",
            payload="[[],{}]",
            limit=100,
        )
        return self.id, at or 0.0, text


class Dispatch(RuleBasedStateMachine):
    """One queue as it should be: `ready` lists, `due` times, `held` by children."""

    client: redis.Redis

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.now = float(round(time.time())) + 1e6
        self.jobs: dict[str, Job] = {}
        self.ready: dict[tuple[int, str], list[str]] = {}
        self.due: dict[str, float] = {}
        self.held: dict[str, list[str]] = {holder: [] for holder in HOLDERS}
        self.unpushed: list[str] = []
        self.gone: set[str] = set()  # settled or cancelled
        self.cancelled: set[str] = set()  # since Redis was last emptied
        self.forbidden: set[str] = set()  # of what is held: not to be queued again
        self.paused = False
        self.resumes = 0

    # the model's own verbs

    def waiting(self) -> list[str]:
        return [i for ids in self.ready.values() for i in ids] + list(self.due)

    def put(self, job: Job, at: float | None) -> None:
        if at is None:
            self.ready.setdefault(job.list, []).append(job.id)
        else:
            self.due[job.id] = at

    def remove(self, job_id: str) -> None:
        self.due.pop(job_id, None)
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

    def chosen(self, data: st.DataObject, ids: list[str]) -> list[str]:
        return data.draw(st.lists(st.sampled_from(ids), unique=True, min_size=1, max_size=6)) if ids else []

    # what happens to the queue

    @rule(count=some, priority=st.sampled_from(PRIORITIES), lane=st.sampled_from(LANES), delay=delays)
    def push(self, count: int, priority: int, lane: str, delay: float | None) -> None:
        made, at = self.make(count, priority, lane), self.at(delay)
        sooner = at is not None and at < min(self.due.values(), default=float("inf"))
        assert queues.push(self.client, QUEUE, [job.entry(at) for job in made]) == count
        for job in made:
            self.put(job, at)
        assert self.rung() or (at is not None and not sooner), "nobody is told"

    @rule(data=st.data())
    def push_again(self, data: st.DataObject) -> None:
        """A push whose answer was lost is repeated: it changes nothing."""
        ids = self.chosen(data, self.waiting())
        assert queues.push(self.client, QUEUE, [self.jobs[i].entry(None) for i in ids]) == 0

    @rule(seconds=st.sampled_from([0.25, 1.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(holder=holders, count=st.integers(1, 12))
    def claim(self, holder: str, count: int) -> None:
        if not self.paused:
            self.promote()
        before = {key: list(ids) for key, ids in self.ready.items() if ids}
        found, at, next_due = queues.claim(self.client, QUEUE, holder, count, self.now)
        ids = [delivery.id for delivery in found]
        assert at == self.now
        if self.paused:
            assert not ids
            return
        assert next_due == min(self.due.values(), default=None)
        assert len(ids) == len(set(ids)) == min(count, sum(map(len, before.values())))
        for delivery in found:
            assert delivery.raw == self.jobs[delivery.id].entry(delivery.run_after)[2]
        # Higher priorities first, and none is passed over.
        priorities = [self.jobs[i].priority for i in ids]
        assert (
            priorities == sorted((p for (p, _), there in before.items() for _ in there), reverse=True)[:count]
        )
        # First in, first out within each lane.
        taken = {key: [i for i in ids if self.jobs[i].list == key] for key in before}
        for key, there in before.items():
            assert taken[key] == there[: len(taken[key])]
        # Lanes of one priority take turns: none is left out while another gets two.
        for priority, room in Counter(priorities).items():
            lanes = [key for key in before if key[0] == priority]
            if room >= len(lanes):
                assert all(taken[key] for key in lanes)
        for job_id in ids:
            self.remove(job_id)
        self.held[holder] += ids

    @rule(holder=holders, count=some)
    def wake_and_claim(self, holder: str, count: int) -> None:
        """A child takes a token of the bell: whoever leaves work behind rings for the next."""
        if self.rung():
            assert queues.wait(self.client, [QUEUE], 1)
        self.claim(holder, count)

    @precondition(lambda self: any(self.held.values()))
    @rule(holder=holders, data=st.data(), delay=delays, going_on=st.booleans())
    def settle(self, holder: str, data: st.DataObject, delay: float | None, going_on: bool) -> None:
        """A child's outcomes are recorded; some of the ids may have been taken away from it before."""
        ids = self.chosen(data, sorted(i for one in self.held.values() for i in one))
        mine = [i for i in ids if i in self.held[holder]]
        ended = [] if going_on else ids
        again = [
            Job(i, self.jobs[i].priority, self.jobs[i].lane, self.jobs[i].number + 1) for i in ids if going_on
        ]
        at = self.at(delay)
        entries = [job.entry(at) for job in again]
        assert queues.settle(self.client, QUEUE, holder, ended, entries) == len(mine)
        for job_id in mine:
            self.held[holder].remove(job_id)
            if not going_on:
                self.gone.add(job_id)
        for job in again:
            if job.id in mine and not self.vanishes(job.id):
                self.jobs[job.id] = job
                self.put(job, at)
        # Acknowledging twice is harmless.
        assert queues.settle(self.client, QUEUE, holder, ended, entries) == 0

    @precondition(lambda self: any(self.held.values()))
    @rule(holder=holders, data=st.data())
    def give_back(self, holder: str, data: st.DataObject) -> None:
        ids = self.chosen(data, sorted(i for one in self.held.values() for i in one))
        mine = [i for i in ids if i in self.held[holder]]
        assert queues.give_back(self.client, QUEUE, holder, ids) == len(set(mine) - self.forbidden)
        for job_id in reversed(mine):
            self.held[holder].remove(job_id)
            if self.vanishes(job_id):
                continue
            self.ready.setdefault(self.jobs[job_id].list, []).insert(0, job_id)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """What waits, or is still to be pushed, is gone for good; what a child holds is not touched."""
        ids = self.chosen(data, sorted(self.jobs))
        by = {i: holder for holder, one in self.held.items() for i in one}
        assert holding(self.client, ids) == {i: by[i] for i in ids if i in by}
        assert holding(self.client, ids, withdraw=True) == {i: by[i] for i in ids if i in by}
        for job_id in set(ids) - set(by):
            self.remove(job_id)
            self.cancelled.add(job_id)
            self.gone.add(job_id)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def forbid(self, data: st.DataObject) -> None:
        """What waits is gone for good; what a child holds goes nowhere when it lets go of it."""
        ids = self.chosen(data, sorted(self.jobs))
        by = {i: holder for holder, one in self.held.items() for i in one}
        found = queues.forbid(self.client, QUEUE, ids)
        assert {i: held.holder for i, held in found.items()} == {i: by[i] for i in ids if i in by}
        assert queues.forbidden(self.client, QUEUE, ids) == ids
        self.forbidden |= set(ids) & set(by)
        for job_id in set(ids) - set(by):
            self.remove(job_id)
            self.cancelled.add(job_id)
            self.gone.add(job_id)

    def vanishes(self, job_id: str) -> bool:
        """Whether a job that its child lets go of was forbidden."""
        if job_id not in self.forbidden:
            return False
        self.forbidden.discard(job_id)
        self.cancelled.add(job_id)
        self.gone.add(job_id)
        return True

    @rule(count=some, priority=st.sampled_from(PRIORITIES), lane=st.sampled_from(LANES))
    def commit_without_push(self, count: int, priority: int, lane: str) -> None:
        """The process dies between its commit and its push."""
        self.unpushed += [job.id for job in self.make(count, priority, lane)]

    @rule(data=st.data())
    def push_too_late(self, data: st.DataObject) -> None:
        """A push that was under way while its job was cancelled, or a sweep that read the row just before."""
        ids = self.chosen(data, sorted(self.cancelled))
        entries = [self.jobs[i].entry(None) for i in ids]
        assert queues.push(self.client, QUEUE, entries) == 0
        assert queues.restore(self.client, QUEUE, entries) == 0

    @rule(data=st.data())
    def sweep(self, data: st.DataObject) -> None:
        """Rows that wait are looked at: what Redis knows is left alone, the rest is pushed."""
        known = self.waiting() + [i for one in self.held.values() for i in one]
        ids = [*self.unpushed, *self.chosen(data, sorted(known))]
        assert queues.unknown(self.client, QUEUE, ids) == self.unpushed
        missing = len(self.unpushed)
        assert queues.restore(self.client, QUEUE, [self.jobs[i].entry(None) for i in ids]) == missing
        for job_id in self.unpushed:
            self.put(self.jobs[job_id], None)
        self.unpushed = []

    @rule(data=st.data(), holder=holders)
    def lose_everything(self, data: st.DataObject, holder: str) -> None:
        """Redis is emptied. One child announces what it runs; all else comes back from the record."""
        running = self.chosen(data, self.held[holder])
        self.client.flushall()
        self.ready, self.due, self.unpushed, self.paused = {}, {}, [], False
        self.held = {name: [] for name in HOLDERS}
        self.cancelled, self.forbidden = set(), set()
        if running:
            bodies = {i: self.jobs[i].entry(None)[2] for i in running}
            queues.hold(self.client, QUEUE, holder, self.now, bodies)
            self.held[holder] = running
        left = [i for i in self.jobs if i not in self.gone]
        missing = [i for i in left if i not in running]
        assert queues.restore(self.client, QUEUE, [self.jobs[i].entry(None) for i in left]) == len(missing)
        for job_id in missing:
            self.put(self.jobs[job_id], None)

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        queues.pause(self.client, QUEUE, paused)
        self.paused = paused
        self.resumes += not paused

    # what must hold at any time

    def rung(self) -> int:
        return int(self.client.llen(keys.bell(QUEUE)))

    @invariant()
    def every_id_is_in_exactly_one_place(self) -> None:
        assert sorted(self.client.hkeys(keys.body(QUEUE))) == sorted(self.waiting())
        depth = {"waiting": sum(map(len, self.ready.values())), "due_later": len(self.due)}
        assert queues.depth(self.client, [QUEUE]) == {QUEUE: depth}
        for holder, ids in self.held.items():
            assert sorted(workers.held(self.client, QUEUE, holder)) == sorted(ids)

    @invariant()
    def nobody_sleeps_while_there_is_work(self) -> None:
        if not self.paused and any(self.ready.values()):
            assert self.rung()
        assert self.rung() <= 8 + self.resumes

    def teardown(self) -> None:
        """In the end everything that waits comes out, once, and nothing else."""
        if self.paused:
            queues.pause(self.client, QUEUE, False)
            self.paused = False
        self.now += 1e6
        left = sorted(self.waiting())
        held = list(self.held[HOLDERS[0]])
        self.claim(HOLDERS[0], 2_000)
        assert sorted(self.held[HOLDERS[0]]) == sorted(left + held)
        self.claim(HOLDERS[0], 10)  # and finds nothing
        assert not self.client.exists(keys.bell(QUEUE), keys.levels(QUEUE), keys.due(QUEUE), keys.body(QUEUE))


def test_the_scripts_behave_like_the_model() -> None:
    Dispatch.client = connection.client()
    # Without shrinking, which takes minutes here: add Phase.shrink to see the shortest way to a failure.
    phases = (Phase.reuse, Phase.generate)
    run_state_machine_as_test(
        Dispatch, settings=settings(max_examples=40, stateful_step_count=40, phases=phases)
    )


@pytest.fixture
def client() -> redis.Redis:
    return connection.client()


def fill(client: redis.Redis, count: int, priority: int = 0, at: float | None = None) -> list[str]:
    """Push so many jobs and return their ids."""
    jobs = [Job(f"{priority}-{n:06}", priority, body.LANE) for n in range(count)]
    assert queues.push(client, QUEUE, [job.entry(at) for job in jobs]) == count
    return [job.id for job in jobs]


def test_many_at_once(client: redis.Redis) -> None:
    """More than one script call takes, and more than Lua can unpack at once."""
    low, high = fill(client, 9_001, -1), fill(client, 9_001, 1)
    assert queues.depth(client, [QUEUE]) == {QUEUE: {"waiting": 18_002, "due_later": 0}}
    out: list[str] = []
    while found := queues.claim(client, QUEUE, "w1.1", 2_000)[0]:
        out += [delivery.id for delivery in found]
    assert out == high + low
    assert queues.give_back(client, QUEUE, "w1.1", high[:7_000]) == 7_000
    assert [d.id for d in queues.claim(client, QUEUE, "w1.2", 5)[0]] == high[:5]
    assert queues.settle(client, QUEUE, "w1.1", high[7_000:] + low) == 11_002
    assert holding(client, high, withdraw=True) == dict.fromkeys(high[:5], "w1.2")
    assert queues.claim(client, QUEUE, "w1.1", 100)[0] == []
    assert client.exists(keys.ready(QUEUE, 1, body.LANE), keys.held(QUEUE, "w1.1")) == 0


def test_very_many_cancelled_are_passed_over(client: redis.Redis) -> None:
    """One claim looks at a bounded number of them, and says to come again."""
    ids = fill(client, 45_000)
    assert queues.holders_of(client, QUEUE, ids[:-1], withdraw=True) == {}
    claims = 0
    while not (found := queues.claim(client, QUEUE, "w1.1", 500)[0]):
        claims += 1
        assert client.exists(keys.bell(QUEUE))
        assert claims < 10
    assert [d.id for d in found] == ids[-1:]


def test_very_many_become_due_at_once(client: redis.Redis) -> None:
    at = time.time() + 1e6
    ids = fill(client, 3_500, at=at)
    assert queues.claim(client, QUEUE, "w1.1", 500, at - 0.001)[2] == at
    out: list[str] = []
    for _ in range(100):
        out += [d.id for d in queues.claim(client, QUEUE, "w1.1", 500, at)[0]]
        if len(out) == len(ids):
            break
    assert out == ids


def test_queues_do_not_meet(client: redis.Redis) -> None:
    fill(client, 3)
    assert queues.claim(client, "other", "w1.1", 10)[0] == []
    assert queues.holders_of(client, "other", ["0-000000"], withdraw=True) == {}
    queues.pause(client, "other", True)
    assert len(queues.claim(client, QUEUE, "w1.1", 10)[0]) == 3


def test_scripts_are_sent_again_when_redis_has_forgotten_them(client: redis.Redis) -> None:
    ids = fill(client, 2)
    client.script_flush()
    assert [d.id for d in queues.claim(client, QUEUE, "w1.1", 5)[0]] == ids


def test_cancelled_delayed_jobs_do_not_count(client: redis.Redis) -> None:
    ids = fill(client, 3, at=time.time() + 1e6)
    queues.holders_of(client, QUEUE, ids[:2], withdraw=True)
    assert queues.depth(client, [QUEUE]) == {QUEUE: {"waiting": 0, "due_later": 1}}
