"""What enqueuers, children and operators do with a queue, each time beside its model (queue_model.py)."""

from __future__ import annotations

import time
from collections import Counter

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from queue_app.dispatch import finding, queues, set_aside
from queue_app.dispatch.queues import DIRECT_PUSH_SECONDS
from tests.support.queue_model import (
    LANES,
    NEED,
    PRIORITIES,
    QUEUE,
    Job,
    Model,
    delays,
    holders,
    holding,
    some,
)


class Moves(Model):
    """Jobs come, run and go."""

    @rule(count=some, priority=st.sampled_from(PRIORITIES), lane=st.sampled_from(LANES), delay=delays)
    def push(self, count: int, priority: int, lane: str, delay: float | None) -> None:
        made, at = self.make(count, priority, lane), self.at(delay)
        sooner = at is not None and at < min(self.due.values(), default=float("inf"))
        self.pushes.append((time.monotonic(), [job.entry(at) for job in made]))
        pushed = self.carried_out(-1)
        if pushed is None:  # clocks were compared while this process was held up: that is made good now
            pushed = self.carried_out(-1)
        assert pushed == count
        for job in made:
            self.put(job, at)
        assert self.rung() or (at is not None and not sooner), "nobody is told"

    def carried_out(self, push: int) -> int | None:
        made, entries = self.pushes[push]
        return queues.push(self.client, QUEUE, entries, made)

    @precondition(lambda self: self.pushes)
    @rule(data=st.data())
    def push_in_vain(self, data: st.DataObject) -> None:
        """By another call: what waits, is held, or was cancelled meanwhile. And the very same push once more, repeated
        on its way, whatever has become of its jobs and of Redis."""
        ids = self.chosen(data, [*self.known(), *sorted(self.cancelled)])
        assert queues.push(self.client, QUEUE, self.entries(ids)) == 0
        assert not self.carried_out(data.draw(st.integers(0, len(self.pushes) - 1)))

    @rule(
        count=some,
        priority=st.sampled_from(PRIORITIES),
        lane=st.sampled_from(LANES),
        data=st.data(),
        dies=st.booleans(),
    )
    def commit(self, count: int, priority: int, lane: str, data: st.DataObject, dies: bool) -> None:
        """The process dies before its push. Or it was frozen, and the push comes late. All is refused then, whatever
        has become of these jobs: the rows must be read first."""
        new = [job.id for job in self.make(count, priority, lane)]
        self.unpushed += new
        if not dies:
            entries = self.entries([*self.chosen(data, self.jobs), *new])
            assert (
                queues.push(self.client, QUEUE, entries, time.monotonic() - DIRECT_PUSH_SECONDS - 0.1) is None
            )

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

    @rule(seconds=st.sampled_from([0.25, 1.0, 10.0]), paused=st.sampled_from([False, False, False, True]))
    def time_passes(self, seconds: float, paused: bool) -> None:
        self.now += seconds
        if paused != self.paused:
            queues.pause(self.client, QUEUE, paused)
            self.paused = paused
            self.resumes += not paused

    @rule(holder=holders, count=st.integers(1, 12), waits=st.booleans())
    def wake_and_claim(self, holder: str, count: int, waits: bool) -> None:
        """A child may take a token of the bell before: whoever leaves work behind rings for the next."""
        if waits and self.rung():
            assert queues.wait(self.client, [QUEUE], 1)
        self.claim(holder, count)

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
        assert queues.give_back(self.client, QUEUE, holder, ids) == len(set(mine) - self.marked_cancelled)
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
        assert set_aside.put(self.client, QUEUE, holder, NEED, ids) == len(set(mine) - self.marked_cancelled)
        for job_id in mine:
            self.held[holder].remove(job_id)
            if not self.vanishes(job_id):
                self.aside.add(job_id)

    @precondition(lambda self: self.aside)
    @rule(holder=holders, count=some)
    def take_aside(self, holder: str, count: int) -> None:
        """A child that knows their task gets those that were set aside, the oldest first."""
        wanted = sorted(self.aside)[:count]
        found, left = set_aside.take(self.client, QUEUE, NEED, holder, count)
        if self.paused:
            assert (found, left) == ([], 0)
            return
        assert [d.id for d in found] == wanted and left == len(self.aside) - len(wanted)
        assert set_aside.requirements(self.client, [QUEUE]) == ({QUEUE: [NEED]} if left else {})
        for job_id in wanted:
            self.aside.remove(job_id)
            self.held[holder].append(job_id)

    def are_gone(self, ids: set[str]) -> None:
        """These waited, and were cancelled."""
        for job_id in sorted(ids):
            self.remove(job_id)
            self.dangling.discard(job_id)
            self.lost.discard(job_id)
            self.cancelled.add(job_id)
            self.gone.add(job_id)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """What waits, or is still to be pushed, is gone for good; what a child holds is not touched."""
        ids = self.of_all(data)
        by = self.holder_of()
        assert holding(self.client, ids) == {i: by[i] for i in ids if i in by}
        assert holding(self.client, ids, withdraw=True) == {i: by[i] for i in ids if i in by}
        self.are_gone(set(ids) - set(by))

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def mark_cancelled(self, data: st.DataObject) -> None:
        """What waits is gone for good; what a child holds goes nowhere when it lets go of it."""
        ids = self.of_all(data)
        by = self.holder_of()
        found = finding.mark_cancelled(self.client, QUEUE, ids)
        assert {i: held.holder for i, held in found.items()} == {i: by[i] for i in ids if i in by}
        assert finding.marked_cancelled(self.client, QUEUE, ids) == ids
        self.marked_cancelled |= set(ids) & set(by)
        self.are_gone(set(ids) - set(by))

    def vanishes(self, job_id: str) -> bool:
        """Whether a job that its child lets go of was forbidden."""
        if job_id not in self.marked_cancelled:
            return False
        self.marked_cancelled.discard(job_id)
        self.cancelled.add(job_id)
        self.gone.add(job_id)
        return True
