"""The lifecycle against a simple model, with faults at any call of a store: enqueue, claim, run, settle, give back,
lose a child, reap, empty Redis, let it go back in time, rebuild, sweep, promote, cancel and replay, in any order.

What must hold after every step: a final row never changes, attempts are numbered without a gap and agree with their
row, an id is in one place in Redis, and no attempt is handed out while another living child has it. And at the end,
when faults are over, every job ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from itertools import count
from typing import Any

import psycopg
import redis
from django.db import DatabaseError, transaction
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from bench.runtime.servers import RedisServer
from queue_app import clock
from queue_app.dispatch import connection, epochs, keys, queues, workers
from queue_app.dispatch.holder import Holder
from queue_app.domain.delivery import Delivery
from queue_app.domain.outcome import Outcome
from queue_app.domain.states import FINAL, WAITING, DeadReason
from queue_app.lifecycle import cancel, operate, release
from queue_app.lifecycle.database import refresh
from queue_app.lifecycle.recovery import rebuild, recover, sweep
from queue_app.models import Attempt, DeadLetter, Job, Worker
from queue_app.worker.child.claims import ClaimSet
from queue_app.worker.child.recorder import Recorder
from tests.app import tasks
from tests.support.factories import WorkerFactory
from tests.support.faults import AFTER, BEFORE, DIES_AFTER, DIES_BEFORE, HANG, Died, Stores
from tests.support.jobs import failed, succeeded
from tests.support.lives import impatient
from tests.support.marks import committed

pytestmark = committed

QUEUE = "default"

MODES = st.sampled_from([AFTER, BEFORE, HANG, DIES_BEFORE, DIES_AFTER])


def faults(last: int) -> st.SearchStrategy[tuple[int, str] | None]:
    """No fault, or at which call of the step (the last one, about), and which."""
    return st.none() | st.tuples(st.integers(0, last), MODES)


few = st.integers(1, 4)
FATES: dict[str, Callable[[Delivery], Outcome]] = {
    "succeeds": succeeded,
    "fails": lambda d: failed(d, run_at=clock.seconds() - 1),
    "fails for a while": lambda d: failed(d, run_at=clock.seconds() + 20),
    "dies": lambda d: failed(d, dead_reason=DeadReason.EXHAUSTED),
}


class Child:
    """A child as its supervisor sees it: what it runs, and whether it lives."""

    serials = count(1)

    def __init__(self, worker_id: str) -> None:
        self.worker_id = worker_id
        self.holder = Holder(workers.holder(worker_id, next(self.serials)))
        self.claims = ClaimSet(self.holder)
        self.recorder = Recorder(worker_id, self.holder, claims=self.claims)
        self.running: dict[str, Delivery] = {}


class Lifecycle(RuleBasedStateMachine):
    """Two workers of two children each."""

    stores: Stores
    client: redis.Redis

    def __init__(self) -> None:
        super().__init__()
        for model in (Attempt, DeadLetter, Job, Worker):
            model.objects.all().delete()
        self.client.flushall()
        connection.forget()
        self.workers = [self.start_worker(), self.start_worker()]
        self.snapshot: dict[bytes, bytes] = {}
        self.children = [Child(worker) for worker in self.workers for _ in range(2)]
        self.unburied: list[Child] = []
        self.promised: set[str] = set()
        self.final: dict[str, tuple[str, int]] = {}
        self.beat()
        rebuild.at_once(connection.client())

    def start_worker(self) -> str:
        return str(WorkerFactory().pk)

    # who does what

    def do(self, fault: tuple[int, str] | None, step: Callable[[], Any]) -> str:
        """Some process takes a step; says whether it is done, has failed, or the process has died."""
        with self.stores.failing(*fault) if fault else nullcontext():
            try:
                step()
                refresh()  # what failed after a commit was nobody's failure, and broke the connection all the same
                return "done"
            except (
                DatabaseError,
                psycopg.Error,
                *connection.Unavailable,
            ):  # a closing cursor raises the driver's own
                refresh(close=True)
                return "failed"
            except Died:
                return "died"

    def beat(self) -> None:
        for worker in self.workers:
            workers.beat(connection.client(), worker, [QUEUE])

    def lose(self, child: Child) -> None:
        """The child is dead; another one takes its place."""
        self.unburied.append(child)
        self.children[self.children.index(child)] = Child(child.worker_id)

    def under_way(self) -> dict[tuple[str, int], Child]:
        """What living children run."""
        return {(d.id, d.number): child for child in self.children for d in child.running.values()}

    def waiting(self) -> list[str]:
        return sorted(map(str, Job.objects.filter(state__in=sorted(WAITING)).values_list("pk", flat=True)))

    # what happens

    @rule(number=few, rolled_back=st.booleans(), delayed=st.booleans(), fault=faults(4))
    def enqueue(self, number: int, rolled_back: bool, delayed: bool, fault: Any) -> None:
        made: list[str] = []
        task = tasks.noop.using(run_after=15) if delayed else tasks.noop

        def step() -> None:
            with transaction.atomic():
                made.extend(result.id for result in task.enqueue_many([((), {})] * number))
                if rolled_back:
                    transaction.set_rollback(True)

        if self.do(fault, step) == "done" and not rolled_back:
            self.promised |= set(made)

    @rule(who=st.integers(0, 3), number=few, fault=faults(0))
    def claim(self, who: int, number: int, fault: Any) -> None:
        if fault and not self.client.exists(keys.levels(QUEUE)):
            self.enqueue(number, False, False, None)  # a fault shall have something to harm
        child = self.children[who]
        found: list[Delivery] = []

        def step() -> None:
            client = connection.client()
            if child.claims.needs_reconcile:
                child.claims.reconcile(client)
            found.extend(queues.claim(client, QUEUE, child.holder, number)[0])
            child.claims.add(found)

        fate = self.do(fault, step)
        if fate == "failed":
            child.claims.mark_unsure([QUEUE])
        elif fate == "died":
            self.lose(child)
        taken = self.under_way()
        rows = {str(pk): (state, n) for pk, state, n in Job.objects.values_list("pk", "state", "attempt")}
        for d in found:
            assert d.id in rows, "it was rolled back, and starts"
            assert (d.id, d.number) not in taken, "two living children have the same attempt"
            assert rows[d.id][0] not in FINAL, "it has ended, and starts"
            assert rows[d.id][1] == d.number - 1, "it starts with a number that cannot count"
            child.running[d.id] = d

    @rule(who=st.integers(0, 3), fates=st.lists(st.sampled_from(sorted(FATES)), min_size=1), fault=faults(6))
    def end(self, who: int, fates: list[str], fault: Any) -> None:
        if fault and not self.children[who].running:
            self.claim(who, 4, None)
        child = self.children[who]
        pairs = list(zip(list(child.running.values()), fates, strict=False))
        for delivery, fate in pairs:
            del child.running[delivery.id]
            child.recorder.put(FATES[fate](delivery))
        if self.do(fault, child.recorder.flush) == "died":
            self.lose(child)
            return
        for delivery, _ in pairs:
            state, number = Job.objects.values_list("state", "attempt").get(pk=delivery.id)
            assert number >= delivery.number, "its outcome is neither recorded nor kept"
            assert state in FINAL or number == delivery.number

    @rule(who=st.integers(0, 3), fault=faults(0))
    def give_back(self, who: int, fault: Any) -> None:
        if fault and not self.children[who].running:
            self.claim(who, 4, None)
        child = self.children[who]
        given = list(child.running.values())
        child.running.clear()

        def step() -> None:
            queues.give_back(connection.client(), QUEUE, child.holder, [d.id for d in given])

        fate = self.do(fault, step)
        if fate == "died":
            self.lose(child)
        elif fate == "failed":
            child.claims.mark_unsure([QUEUE])
        child.claims.remove(given)

    @rule(who=st.integers(0, 3))
    def kill(self, who: int) -> None:
        self.claim(who, 3, None)
        self.lose(self.children[who])

    @rule(fault=faults(8))
    def bury(self, fault: Any) -> None:
        for child in list(self.unburied):
            started = {d.id: clock.seconds() for d in child.running.values()}
            cause = recover.Cause("killed by SIGKILL", running=started, blameless=True)

            def step(child: Child = child, cause: recover.Cause = cause) -> None:
                recover.take_back(connection.client(), child.holder, [QUEUE], child.worker_id, cause)

            if self.do(fault, step) == "done":
                self.unburied.remove(child)

    @rule(which=st.integers(0, 1), fault=faults(12))
    def lose_machine_and_reap(self, which: int, fault: Any) -> None:
        self.claim(2 * which, 3, None)
        gone = self.workers[which]
        self.workers[which] = self.start_worker()
        for child in [c for c in self.children if c.worker_id == gone]:
            self.children[self.children.index(child)] = Child(self.workers[which])
        self.unburied = [c for c in self.unburied if c.worker_id != gone]
        self.beat()
        self.client.hset(keys.workers(), gone, "1.0|default")
        Worker.objects.filter(pk=gone).update(heartbeat_at=clock.from_seconds(clock.seconds() - 3_600))
        # What is stale is dropped before: the rebuild is the first of the duties.
        if self.do(None, self.drop_stale) == "done":
            self.do(fault, lambda: recover.reap(connection.client(), self.workers[1 - which]))

    @rule()
    def save_snapshot(self) -> None:
        self.snapshot = {key: self.client.dump(key) for key in self.client.scan_iter()}

    @rule(back=st.booleans(), fault=faults(8))
    def lose_redis(self, back: bool, fault: Any) -> None:
        """Its data are lost, or as they were some time ago. Keepers announce what their children run, and the leader
        puts back the rest."""
        self.client.flushall()
        if back and self.snapshot:
            for key, value in self.snapshot.items():
                self.client.restore(key, 0, value)
            name = keys.epoch("main")
            _, _, rest = (self.client.get(name) or b"").decode().partition("|")
            self.client.set(name, f"{'0' * 40}|{rest}")  # it was another process
        if self.do(fault, self.drop_stale) == "done" and self.do(fault, self.announce) == "done":
            self.do(fault, self.rebuild)

    def drop_stale(self) -> None:
        client = connection.client()
        if epochs.read(client)["main"].lost:
            rebuild.begin(client, "main", epochs.life_of_server(client))

    def announce(self) -> None:
        self.beat()
        for child in self.children:
            running = [(d.id, d.number, clock.seconds()) for d in child.running.values()]
            if running:
                recover.announce_running(connection.client(), child.holder, running)

    def rebuild(self) -> None:
        rebuild.at_once(connection.client())

    @rule(fault=faults(12))
    def maintain(self, fault: Any) -> None:
        """Sweep, promote, end what was cancelled; or the rebuild that is still to be done."""

        def step() -> None:
            client = connection.client()
            if not epochs.all_open(client):
                self.drop_stale()
                self.announce()
                self.rebuild()
            rebuild.sync_pauses(client)
            clock.travel(lambda: time.time() + 30)  # what is there is old enough
            try:
                sweep.push_missing_backlog(client)
            finally:
                clock.travel()
            release.load_due(client)
            release.promote_due(client)
            cancel.retry_requests()

        self.do(fault, step)

    @rule(places=st.sets(st.integers(0, 20), min_size=1, max_size=3), fault=faults(5))
    def cancel(self, places: set[int], fault: Any) -> None:
        waiting = self.waiting()
        if waiting and epochs.all_open(connection.client()):  # else it is not known what runs
            chosen = sorted({waiting[place % len(waiting)] for place in places})
            running = {job_id for job_id, _ in self.under_way()}
            done: list[str] = []
            self.do(fault, lambda: done.extend(operate.cancel(chosen).done))
            assert not running & set(done), "it was cancelled while it ran"

    @rule(fault=faults(6))
    def replay(self, fault: Any) -> None:
        for job_id in DeadLetter.objects.filter(replayed_at=None).values_list("job_id", flat=True):
            self.final.pop(str(job_id), None)
        self.do(fault, lambda: operate.replay(DeadLetter.objects.all()))

    # what must hold

    @invariant()
    def final_once_and_as_its_history_says(self) -> None:
        rows = {str(job.pk): job for job in Job.objects.only("pk", "state", "attempt")}
        assert self.promised <= set(rows)
        for job_id, said in self.final.items():
            assert (rows[job_id].state, rows[job_id].attempt) == said, "a final row changed"
        history: dict[str, list[tuple[int, str]]] = {}
        for job_id, number, state in Attempt.objects.order_by("number").values_list(
            "job_id", "number", "state"
        ):
            history.setdefault(str(job_id), []).append((number, state))
        assert set(history) <= set(rows)
        for job_id, job in rows.items():
            attempts = history.get(job_id, [])
            assert [number for number, _ in attempts] == list(range(1, job.attempt + 1))
            states = [state for _, state in attempts]
            assert ("succeeded" in states) == (job.state == "succeeded")
            assert "succeeded" not in states[:-1]
            if job.state in FINAL:
                self.final.setdefault(job_id, (job.state, job.attempt))

    @invariant()
    def one_place_in_redis(self) -> None:
        base = keys.base(QUEUE)
        held = [i for key in self.client.scan_iter(f"{base}held:*") for i in self.client.hkeys(key)]
        known = self.client.hgetall(keys.body(QUEUE))
        waits = [job_id for job_id, value in known.items() if not value.startswith(b"@")]
        assert {job_id for job_id, value in known.items() if value.startswith(b"@")} == set(held)
        places = [i.decode() for i in [*held, *waits]]
        assert len(places) == len(set(places)), "an id is in two places"
        assert set(places) <= {str(pk) for pk in Job.objects.values_list("pk", flat=True)}, (
            "a job in Redis alone"
        )
        queued = {
            i for key in self.client.scan_iter(f"{base}ready:*") for i in self.client.lrange(key, 0, -1)
        }
        due = set(self.client.zrange(keys.due(QUEUE), 0, -1))
        assert set(waits) <= queued | due, "it waits, and nobody will find it"

    def teardown(self) -> None:
        """Faults are over, and a minute passes. Living children go on living."""
        for name in self.client.zrange(keys.cancelled(QUEUE), 0, -1):
            self.client.zadd(keys.cancelled(QUEUE), {name: time.time() - 61})
        self.maintain(None)
        self.bury(None)
        self.beat()
        for worker in self.workers:
            recover.reap(connection.client(), worker)
        Job.objects.filter(run_after__isnull=False).exclude(state__in=sorted(FINAL)).update(
            run_after=clock.from_seconds(clock.seconds() - 1)
        )
        for name in self.client.zrange(keys.due(QUEUE), 0, -1):
            self.client.zadd(keys.due(QUEUE), {name: 1})
        for _ in range(50):
            self.maintain(None)
            for who, child in enumerate(self.children):
                self.claim(who, 4, None)
                self.end(who, ["succeeds"] * len(child.running) or ["succeeds"], None)
            if not Job.objects.exclude(state__in=sorted(FINAL)).exists():
                break
        self.final_once_and_as_its_history_says()
        left = Job.objects.exclude(state__in=sorted(FINAL)).values_list("pk", "state", "attempt")
        assert not left, f"these never end: {list(left)}"
        assert not list(self.client.scan_iter(f"{keys.base(QUEUE)}held:*")), "held for ever"
        assert not self.client.exists(keys.body(QUEUE), keys.due(QUEUE))


def test_every_life_ends_well(redis_process: RedisServer, clean_redis: redis.Redis) -> None:
    Lifecycle.stores, Lifecycle.client = Stores(redis_process), clean_redis
    with impatient():
        run_state_machine_as_test(
            Lifecycle,
            settings=settings(
                max_examples=25,
                stateful_step_count=25,
                phases=[Phase.generate],  # shrinking takes minutes; twenty steps can be read
                suppress_health_check=list(HealthCheck),
            ),
        )
