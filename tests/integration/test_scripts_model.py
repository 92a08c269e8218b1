"""The Lua scripts against a model: several children claim, settle, give back and set aside, in any order. In between
come late and repeated pushes, sweeps that overtake each other, cancellations, pauses, delays and losses. No id is lost,
none is handed out twice, and the order is kept.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
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

from queue_app.dispatch import body, connection, epochs, keys, listing, queues, unknown, workers
from queue_app.dispatch.queues import DIRECT, Entry
from tests.support.epochs import begin_epoch

QUEUE = "mail"
HOLDERS = ["w1.1", "w1.2", "w2.1"]
PRIORITIES = [-100, 0, 1, 100]
LANES = [body.LANE, "tenant 7", "é"]
NEED = "|no.such.task"

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


@dataclass
class Look:
    """What a sweep has found: the jobs that Redis did not know, whose rows it read after that."""

    stamp: str
    jobs: list[Job]


class Dispatch(RuleBasedStateMachine):
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
        self.forbidden: set[str] = set()  # of what is held: not to be queued again
        self.paused = False
        self.resumes = 0

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

    # what happens to the queue

    @rule(count=some, priority=st.sampled_from(PRIORITIES), lane=st.sampled_from(LANES), delay=delays)
    def push(self, count: int, priority: int, lane: str, delay: float | None) -> None:
        made, at = self.make(count, priority, lane), self.at(delay)
        sooner = at is not None and at < min(self.due.values(), default=float("inf"))
        self.pushes.append((time.monotonic(), [job.entry(at) for job in made]))
        assert self.carried_out(-1) == count
        for job in made:
            self.put(job, at)
        assert self.rung() or (at is not None and not sooner), "nobody is told"

    def carried_out(self, push: int) -> int | None:
        made, entries = self.pushes[push]
        return queues.push(self.client, QUEUE, entries, made)

    @precondition(lambda self: self.pushes)
    @rule(data=st.data())
    def push_is_repeated(self, data: st.DataObject) -> None:
        """By the network, say. Whatever has become of its jobs, it changes nothing."""
        assert not self.carried_out(data.draw(st.integers(0, len(self.pushes) - 1)))

    @rule(data=st.data())
    def push_again(self, data: st.DataObject) -> None:
        """What waits, or is held, is pushed by another call: it changes nothing."""
        ids = self.chosen(data, self.known())
        assert queues.push(self.client, QUEUE, self.entries(ids)) == 0

    @rule(count=some, priority=st.sampled_from(PRIORITIES), lane=st.sampled_from(LANES), data=st.data())
    def push_late(self, count: int, priority: int, lane: str, data: st.DataObject) -> None:
        """Its process was frozen. All is refused, whatever has become of these jobs: the rows must be read first."""
        new = [job.id for job in self.make(count, priority, lane)]
        self.unpushed += new
        entries = self.entries([*self.chosen(data, self.jobs), *new])
        assert queues.push(self.client, QUEUE, entries, time.monotonic() - DIRECT - 0.1) is None

    @precondition(lambda self: self.unpushed)
    @rule(data=st.data())
    def push_at_last(self, data: st.DataObject) -> None:
        """A process was slow between its commit and its push. What a sweep has looked for meanwhile is left to that."""
        ids = self.chosen(data, self.unpushed)
        entered = [i for i in ids if i not in self.not_direct | self.dangling]
        assert queues.push(self.client, QUEUE, self.entries(ids)) == len(entered)
        for job_id in entered:
            self.remove(job_id)
            self.put(self.jobs[job_id], None)

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
        ids = self.chosen(data, self.holder_of())
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
        ids = self.chosen(data, self.holder_of())
        mine = [i for i in ids if i in self.held[holder]]
        assert queues.give_back(self.client, QUEUE, holder, ids) == len(set(mine) - self.forbidden)
        for job_id in reversed(mine):
            self.held[holder].remove(job_id)
            if self.vanishes(job_id):
                continue
            self.ready.setdefault(self.jobs[job_id].list, []).insert(0, job_id)

    @precondition(lambda self: any(self.held.values()))
    @rule(holder=holders, data=st.data())
    def set_aside(self, holder: str, data: st.DataObject) -> None:
        """A child does not know the task of some jobs."""
        ids = self.chosen(data, self.holder_of())
        mine = [i for i in ids if i in self.held[holder]]
        assert unknown.park(self.client, QUEUE, holder, NEED, ids) == len(set(mine) - self.forbidden)
        for job_id in mine:
            self.held[holder].remove(job_id)
            if not self.vanishes(job_id):
                self.aside.add(job_id)

    @precondition(lambda self: self.aside)
    @rule(count=some)
    def offer(self, count: int) -> None:
        """A child knows their task: those that were set aside first go to the front of their lanes."""
        name = keys.unknown_of(QUEUE, NEED)
        ids = [str(job_id) for job_id in self.client.zrange(name, 0, count - 1)]
        assert set(ids) <= self.aside and len(ids) == min(count, len(self.aside))
        assert unknown.offer(self.client, QUEUE, NEED, count) == len(ids)
        assert unknown.needs(self.client, [QUEUE]) == ({QUEUE: [NEED]} if len(self.aside) > len(ids) else {})
        for job_id in reversed(ids):
            self.aside.remove(job_id)
            self.ready.setdefault(self.jobs[job_id].list, []).insert(0, job_id)
        self.client.lpush(keys.bell(QUEUE), "1")  # the caller claims next, and rings for others
        self.client.ltrim(keys.bell(QUEUE), 0, 7)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """What waits, or is still to be pushed, is gone for good; what a child holds is not touched."""
        ids = self.of_all(data)
        by = self.holder_of()
        assert holding(self.client, ids) == {i: by[i] for i in ids if i in by}
        assert holding(self.client, ids, withdraw=True) == {i: by[i] for i in ids if i in by}
        for job_id in set(ids) - set(by):
            self.remove(job_id)
            self.dangling.discard(job_id)
            self.lost.discard(job_id)
            self.cancelled.add(job_id)
            self.gone.add(job_id)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def forbid(self, data: st.DataObject) -> None:
        """What waits is gone for good; what a child holds goes nowhere when it lets go of it."""
        ids = self.of_all(data)
        by = self.holder_of()
        found = queues.forbid(self.client, QUEUE, ids)
        assert {i: held.holder for i, held in found.items()} == {i: by[i] for i in ids if i in by}
        assert queues.forbidden(self.client, QUEUE, ids) == ids
        self.forbidden |= set(ids) & set(by)
        for job_id in set(ids) - set(by):
            self.remove(job_id)
            self.dangling.discard(job_id)
            self.lost.discard(job_id)
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
    def push_of_what_was_cancelled(self, data: st.DataObject) -> None:
        """It was under way meanwhile."""
        ids = self.chosen(data, sorted(self.cancelled))
        assert queues.push(self.client, QUEUE, self.entries(ids)) == 0

    @precondition(lambda self: self.unpushed)
    @rule(data=st.data(), frozen=st.booleans())
    def sweep(self, data: st.DataObject, frozen: bool) -> None:
        """Rows that wait are looked for, and those that Redis does not know are pushed; or later, or never."""
        self.look(data)
        if not frozen:
            self.restore(data, -1)

    @precondition(lambda self: self.looks)
    @rule(data=st.data(), which=st.integers(-4, -1))
    def sweep_goes_on(self, data: st.DataObject, which: int) -> None:
        """It was frozen since its look; or it does twice what it did once."""
        self.restore(data, max(which, -len(self.looks)))

    def look(self, data: st.DataObject) -> None:
        """A sweep asks for rows that wait: Redis stamps those that it does not know. Their rows are read then."""
        ids = [*self.chosen(data, self.known()), *self.chosen(data, self.unpushed)]
        expected = [i for i in ids if i in self.unpushed]
        assert queues.unknown(self.client, QUEUE, ids) == expected
        found = queues.missing(self.client, {QUEUE: ids})
        missing, stamp = found[QUEUE]
        assert missing == expected
        self.looks.append(Look(stamp, [self.jobs[i] for i in missing]))
        self.stamps.update(dict.fromkeys(missing, stamp))
        self.not_direct.update(missing)

    def restore(self, data: st.DataObject, which: int) -> None:
        look = self.looks[which]
        strange = [self.jobs[i] for i in self.chosen(data, self.jobs) if self.stamps.get(i) != look.stamp]
        entered = [
            job
            for job in look.jobs
            if self.stamps.get(job.id) == look.stamp and job.id not in self.cancelled | set(self.known())
        ]
        entries = [job.entry(None) for job in [*strange, *look.jobs]]
        assert queues.restore(self.client, {QUEUE: (entries, look.stamp)}) == len(entered)
        for job in entered:
            assert job.id not in self.gone and job.number == self.jobs[job.id].number, "it is as its row was"
            del self.stamps[job.id]
            self.remove(job.id)
            self.dangling.discard(job.id)
            self.put(job, None)

    @precondition(lambda self: any(self.held.values()))
    @rule(holder=holders)
    def lose_what_is_held(self, holder: str) -> None:
        """Redis loses a part of its data. The record says that these jobs wait: nobody has them."""
        self.client.delete(keys.held(QUEUE, holder))
        for job_id in self.held[holder]:
            if self.vanishes(job_id):
                continue
            self.dangling.add(job_id)
            self.unpushed.append(job_id)
        self.lost |= set(self.held[holder])
        self.held[holder] = []

    @precondition(lambda self: self.unpushed)
    @rule(holder=holders, data=st.data())
    def announce_late(self, holder: str, data: st.DataObject) -> None:
        """A keeper says what its child runs, when others have it already, or a sweep is about to push it."""
        ids = self.chosen(data, [*self.unpushed, *self.holder_of()])
        by = self.holder_of()
        mine = [i for i in ids if by.get(i, holder) == holder]
        bodies = {i: self.jobs[i].entry(None)[2] for i in ids}
        queues.hold(self.client, QUEUE, holder, self.now, bodies)
        for job_id in set(mine) - by.keys():
            self.remove(job_id)
            self.dangling.discard(job_id)
            self.held[holder].append(job_id)

    @rule(data=st.data(), holder=holders, emptied=st.booleans())
    def lose_everything(self, data: st.DataObject, holder: str, emptied: bool) -> None:
        """Redis is emptied, or goes back in time. One child announces what it runs; new work comes; and all that waits
        comes back from the record."""
        running = self.chosen(data, self.held[holder])
        there = len(self.waiting()) + len(self.holder_of())
        if emptied:
            self.client.flushall()
            self.cancelled, self.forbidden, self.paused, there = set(), set(), False, 0
        else:
            self.client.set(keys.epoch("main"), f"{'0' * 40}|old|whole")
            for job_id in sorted(self.forbidden - set(running)):
                self.vanishes(job_id)
        self.all_is_refused(holder)
        bodies = {i: self.jobs[i].entry(None)[2] for i in running}
        with pytest.raises(connection.DataLost):
            queues.hold(self.client, QUEUE, holder, self.now, bodies)
        (new,) = self.make(1, 0, body.LANE)
        with pytest.raises(connection.DataLost):
            queues.push(self.client, QUEUE, [new.entry(None)], time.monotonic())

        assert there <= epochs.drop(self.client, [QUEUE]) <= there + len(self.lost)
        assert epochs.drop(self.client, [QUEUE]) == 0
        self.ready, self.due, self.aside, self.unpushed = {}, {}, set(), []
        self.dangling, self.lost = set(), set()
        self.held = {name: [] for name in HOLDERS}
        self.stamps, self.not_direct, self.resumes = {}, set(), 0
        begin_epoch(self.client, life=self.life, to=epochs.CLOSED)
        assert epochs.drop(self.client, [QUEUE]) is None, "they are not stale"
        self.all_is_refused(holder)
        left = [self.jobs[i] for i in self.jobs if i not in self.gone]
        if running:
            queues.hold(self.client, QUEUE, holder, self.now, bodies)
            self.held[holder] = running
        self.push(1, 0, body.LANE, None)

        epoch = epochs.read(self.client)["main"]
        assert epochs.open_claims(self.client, "main", epoch)
        missing = [job for job in left if job.id not in running]
        found = queues.missing(self.client, {QUEUE: [job.id for job in left] or ["none"]})
        if missing:
            assert found[QUEUE][0] == [job.id for job in missing]
            entries = [job.entry(None) for job in left]
            assert queues.restore(self.client, {QUEUE: (entries, found[QUEUE][1])}) == len(missing)
        for job in missing:
            self.put(job, None)
            self.not_direct.add(job.id)
        assert epochs.complete(self.client, "main", epoch)

    def all_is_refused(self, holder: str) -> None:
        """As long as it is not known what runs."""
        ids = list(self.jobs)[:3] or ["none"]
        for call in (
            lambda: queues.claim(self.client, QUEUE, holder, 1, self.now),
            lambda: queues.missing(self.client, {QUEUE: ids}),
            lambda: queues.unknown(self.client, QUEUE, ids),
            lambda: queues.restore(self.client, {QUEUE: ([Job(ids[0], 0, body.LANE).entry(None)], "1")}),
            lambda: holding(self.client, ids, withdraw=True),
            lambda: unknown.offer(self.client, QUEUE, NEED, 10),
        ):
            with pytest.raises(connection.DataLost):
                call()

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
        depth = {"waiting": ready + extra + len(self.aside), "due_later": len(self.due)}
        assert queues.depth(self.client, [QUEUE]) == {QUEUE: depth}

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
        self.offer(2_000)
        left = sorted(self.waiting())
        held = list(self.held[HOLDERS[0]])
        self.claim(HOLDERS[0], 2_000)
        assert sorted(self.held[HOLDERS[0]]) == sorted(left + held)
        self.claim(HOLDERS[0], 10)  # and finds nothing
        assert not self.client.exists(
            keys.bell(QUEUE), keys.levels(QUEUE), keys.due(QUEUE), keys.unknown(QUEUE)
        )
        for name in ("lanes", "ready"):
            assert not list(self.client.scan_iter(f"{keys.base(QUEUE)}{name}:*"))
        for holder, ids in self.held.items():
            assert queues.settle(self.client, QUEUE, holder, ids) == len(ids)
        assert self.client.hlen(keys.body(QUEUE)) == 0 or self.lost


class OfNoLife(Dispatch):
    """The same where the server's run_id cannot be used."""

    life = epochs.UNNAMED


@pytest.mark.parametrize("machine,examples", [(Dispatch, 40), (OfNoLife, 15)])
def test_the_scripts_behave_like_the_model(machine: type[Dispatch], examples: int) -> None:
    machine.client = connection.client()
    # Without shrinking, which takes minutes here: add Phase.shrink to see the shortest way to a failure.
    phases = (Phase.reuse, Phase.generate)
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=40, phases=phases)
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
