"""The Lua scripts against a model: several children claim, settle, give back and set aside, in any order. In between
come late and repeated pushes, sweeps that overtake each other, cancellations, pauses, delays and losses. No id is lost,
none is handed out twice, and the order is kept.
"""

from __future__ import annotations

import time

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from queue_app.dispatch import connection, epochs, finding, keys, listing, queues, set_aside
from queue_app.domain.envelope import LANE
from tests.support.epochs import begin_epoch
from tests.support.queue_model import HOLDERS, NEED, QUEUE, Job, Look, holders, holding
from tests.support.queue_moves import Moves


class Dispatch(Moves):
    """In between come sweeps and losses."""

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
        assert listing.unknown(self.client, {QUEUE: ids}).get(QUEUE, []) == expected
        found = finding.missing(self.client, {QUEUE: ids})
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
        for job_id in mine:
            self.stamps.pop(job_id, None)
        for job_id in sorted(set(mine) - by.keys()):
            self.remove(job_id)
            self.dangling.discard(job_id)
            self.held[holder].append(job_id)

    @precondition(lambda self: self.steps > 20)
    @rule(data=st.data(), holder=holders, emptied=st.booleans())
    def lose_everything(self, data: st.DataObject, holder: str, emptied: bool) -> None:
        """Redis is emptied, or goes back in time. One child announces what it runs; new work comes; and all that waits
        comes back from the record."""
        self.steps = 0
        running = self.chosen(data, self.held[holder])
        there = len(self.waiting()) + len(self.holder_of())
        if emptied:
            self.client.flushall()
            self.cancelled, self.marked_cancelled, self.paused, there = set(), set(), False, 0
        else:
            self.client.set(keys.epoch("main"), f"{'0' * 40}|old|whole")
            for job_id in sorted(self.marked_cancelled - set(running)):
                self.vanishes(job_id)
        self.all_is_refused(holder)
        bodies = {i: self.jobs[i].entry(None)[2] for i in running}
        with pytest.raises(connection.DataLost):
            queues.hold(self.client, QUEUE, holder, self.now, bodies)
        (new,) = self.make(1, 0, LANE)
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
        self.push(1, 0, LANE, None)

        epoch = epochs.read(self.client)["main"]
        assert epochs.open_claims(self.client, "main", epoch)
        missing = [job for job in left if job.id not in running]
        found = finding.missing(self.client, {QUEUE: [job.id for job in left] or ["none"]})
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
            lambda: finding.missing(self.client, {QUEUE: ids}),
            lambda: listing.unknown(self.client, {QUEUE: ids}),
            lambda: queues.restore(self.client, {QUEUE: ([Job(ids[0], 0, LANE).entry(None)], "1")}),
            lambda: holding(self.client, ids, withdraw=True),
            lambda: set_aside.take(self.client, QUEUE, NEED, holder, 10),
        ):
            with pytest.raises(connection.DataLost):
                call()

    def teardown(self) -> None:
        """In the end everything that waits comes out, once, and nothing else."""
        if self.paused:
            queues.pause(self.client, QUEUE, False)
            self.paused = False
        self.now += 1e6
        left = sorted(self.waiting())
        held = list(self.held[HOLDERS[0]])
        self.take_aside(HOLDERS[0], 1_000)
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
        machine, settings=settings(max_examples=examples, stateful_step_count=60, phases=phases)
    )
