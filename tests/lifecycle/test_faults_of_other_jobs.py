"""P5, P6, P10 and P2 at every call of a store, as in test_faults.py: atomic jobs, cancellations, tasks that a child
does not know, and announcing what runs after Redis has lost its data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis
from django.db import DatabaseError, Error, InternalError, OperationalError

from bench.runtime.servers import RedisServer
from queue_app import clock
from queue_app.dispatch import connection, epochs, keys, workers
from queue_app.exceptions import StoreUnavailable, UnknownTask
from queue_app.lifecycle import cancel, operate
from queue_app.lifecycle.recovery import recover
from queue_app.models import Attempt, DeadLetter, Job
from queue_app.tasks import registry
from tests.app.counted_tasks import booked, runs
from tests.app.models import Effect
from tests.support.faults import AFTER, BEFORE, DIES_AFTER, Died
from tests.support.lives import QUEUES, Finite, World, _Slots
from tests.support.marks import committed
from tests.support.visits import everywhere, world_of

pytestmark = committed

#: A call that hangs is one whose answer is lost, and that comes late: test_faults.py has those.
modes = pytest.mark.parametrize("mode", [BEFORE, AFTER, DIES_AFTER])


class Bank(World):
    """Where jobs are atomic."""

    def check(self) -> None:
        """Each effect is there exactly once, of the attempt that succeeded."""
        self.come_right()
        found = {str(job.pk): job for job in Job.objects.all()}
        assert set(found) == set(self.committed) and {job.state for job in found.values()} == {"succeeded"}
        effects = sorted(Effect.objects.values_list("job", "label"))
        won = Attempt.objects.filter(state="succeeded").values_list("job_id", "number")
        assert effects == sorted((str(job_id), str(number)) for job_id, number in won)
        assert len(effects) == len(found) and not self.left()

    def clear(self) -> None:
        super().clear()
        Effect.objects.all().delete()


@pytest.fixture
def bank(redis_process: RedisServer, clean_redis: redis.Redis) -> Iterator[Bank]:
    with world_of(Bank, redis_process, clean_redis) as made:
        yield made


def bookings(world: Bank) -> None:
    with world.stores.asleep():
        calls: list[Any] = [((), {}), ((), {"failures": 1}), ((), {})]
        world.committed += [result.id for result in booked.enqueue_many(calls)]
    world.serve()


@modes
def test_atomic_jobs(bank: Bank, mode: str) -> None:
    assert {"sql COMMIT", "redis settle", "sql INSERT"} <= set(everywhere(bank, mode, bookings))


class Wavering(World):
    """Where jobs are cancelled."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.done: set[str] = set()  # never to begin
        self.wanted: set[str] = set()  # somebody tried to cancel them

    def cancel(self, *ids: str) -> None:
        self.wanted |= set(ids)

        def ask() -> None:
            # Who is told that it could not be done knows nothing: it may have been.
            with suppress(StoreUnavailable, DatabaseError):
                self.done |= set(operate.cancel(ids).done)

        self.do(ask)

    def duties(self) -> None:
        super().duties()
        cancel.retry_requests()

    def come_right(self) -> None:
        # A cancellation that was cut off keeps its job from starting for a while, which is over here.
        self.client.delete(*(keys.cancelled(queue) for queue in QUEUES))
        for _ in range(4):
            self.duties()
            self.serve()
            if not Job.objects.unfinished().exists() and not self.left():
                return

    def check(self) -> None:
        """Each job has ended one way; what was said to be done never began."""
        self.come_right()
        states = {str(pk): state for pk, state in Job.objects.values_list("pk", "state")}
        ran = {job_id for job_id, _ in runs}
        assert set(states.values()) <= {"succeeded", "cancelled"}, states
        assert not self.done & ran and {states[i] for i in self.done} <= {"cancelled"}
        assert {i for i, state in states.items() if state == "cancelled"} <= self.wanted
        assert {i for i, state in states.items() if state == "succeeded"} == set(
            map(str, Attempt.objects.filter(state="succeeded").values_list("job_id", flat=True))
        )
        assert len(runs) - len(set(runs)) <= self.died, "ran twice, and nobody died"
        assert not DeadLetter.objects.exists() and not self.left()


@pytest.fixture
def wavering(redis_process: RedisServer, clean_redis: redis.Redis) -> Iterator[Wavering]:
    with world_of(Wavering, redis_process, clean_redis) as made:
        yield made


def cancelled(world: Wavering) -> None:
    """One job waits, one is in the hands of a child and has not begun, one is given back when it has been cancelled."""
    world.have(5)
    waiting, held, back = world.committed[4], world.committed[1], world.committed[2]
    child = world.child
    with world.stores.asleep():
        claimed = child._claim(3).deliveries
    world.cancel(waiting)
    world.cancel(held, back)
    child.shared.request_recheck(0)  # as its keeper does
    child._runner.prefetch.extend([claimed[2]])
    try:
        world.do(child._runner.give_back)
        if not world.died:
            _Slots(child._runner, child._is_stopping).run(claimed[:2])
    except Died:
        world.died = True
        world.stores.revive()
    if world.died:
        world.again(lambda: world.bury(child))
        world.child = Finite(child.serial + 1, child.worker_id)
    world.again(world.duties)
    world.serve()


@modes
def test_cancelling(wavering: Wavering, mode: str) -> None:
    assert {"redis find", "redis give_back", "sql UPDATE"} <= set(everywhere(wavering, mode, cancelled))


@pytest.fixture
def world(redis_process: RedisServer, clean_redis: redis.Redis) -> Iterator[World]:
    with world_of(World, redis_process, clean_redis) as made:
        yield made


def not_known(world: World) -> None:
    """The first child's code lacks the task; that of its successor has it."""

    def look_up(name: str) -> Any:
        raise UnknownTask(f"There is no {name} here.")

    world.have(3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "look_up", look_up)
        for question in ("known_task", "loaded_task"):
            patch.setattr(registry, question, lambda name: None)
        world.serve()
    world.child = Finite()
    world.serve()


@modes
def test_tasks_that_a_child_does_not_know(world: World, mode: str) -> None:
    assert {"redis set_aside", "redis take_set_aside"} <= set(everywhere(world, mode, not_known))


def announced(world: World) -> None:
    """Redis loses its data while a job runs and another one has been claimed; the keeper says what runs."""
    world.have(4)
    child = world.child
    holder = workers.holder(child.worker_id, child.serial)
    with world.stores.asleep():
        first, second = child._claim(2).deliveries
        child.shared.start(0, 0, first.id, first.number, clock.seconds(), 0.0)
        world.client.flushall()

    def announce() -> None:
        child.shared.flag_data_loss(0)
        recover.announce_running(connection.client(), holder, [(first.id, first.number, clock.seconds())])
        epoch = epochs.read(connection.client())["main"]
        epochs.announce(connection.client(), "main", epoch.name, child.worker_id)

    world.again(world.begin_rebuild)
    world.again(announce)
    child.shared.flag_data_loss(0)
    world.again(world.duties)
    try:
        _Slots(child._runner, child._is_stopping).run([first, second])
    except Died:
        world.died = True
        world.stores.revive()
        world.again(lambda: world.bury(child))
        world.child = Finite(child.serial + 1, child.worker_id)
    world.serve()


@modes
def test_announcing_what_runs(world: World, mode: str) -> None:
    assert {"redis drop", "redis epoch", "redis hold", "redis restore", "redis revoke"} <= set(
        everywhere(world, mode, announced)
    )


@pytest.mark.parametrize(
    ("call", "mode"),
    [("redis settle", BEFORE), ("redis settle", AFTER), ("sql COMMIT", BEFORE), ("sql COMMIT", AFTER)],
)
def test_what_the_record_says_is_cancelled_does_not_begin(wavering: Wavering, call: str, mode: str) -> None:
    """A child drops what was cancelled in its hands, and a store fails in the midst of that."""
    wavering.have(3)
    child = wavering.child
    first, *others = child._claim(3).deliveries
    child._runner.prefetch.extend(others)
    wavering.cancel(first.id)
    child.shared.request_recheck(0)
    order = ["redis ZMSCORE", "sql BEGIN", "sql SELECT", "sql UPDATE", "sql COMMIT", "redis settle"]
    if os.environ.get("TEST_DATABASE") == "postgresql":
        order.remove("sql BEGIN")
    with wavering.stores.failing(order.index(call), mode):
        child._runner.run_one(0, first)
    assert wavering.stores.hit == call, wavering.stores.seen
    job = Job.objects.get(pk=first.id)
    assert (job.state, job.attempt) == ("cancelled", 0)
    assert first.id not in [job_id for job_id, _ in runs]
    _Slots(child._runner, child._is_stopping).run([])
    wavering.check()


@pytest.mark.parametrize("kind", [OperationalError, InternalError])
def test_a_child_that_stops_while_the_record_is_away_begins_nothing_cancelled(
    wavering: Wavering, monkeypatch: pytest.MonkeyPatch, kind: type[Error]
) -> None:
    """What was cancelled goes back with all that it holds, and ends elsewhere. So it is where writes are refused."""

    def away(numbers: dict[str, int]) -> set[str]:
        raise kind("not now")

    wavering.have(1)
    child = wavering.child
    (first,) = child._claim(1).deliveries
    wavering.cancel(first.id)
    child.shared.request_recheck(0)
    child._stopping = True
    with monkeypatch.context() as patch:
        patch.setattr(cancel, "end_unstarted", away)
        child._runner.run_one(0, first)
    assert not runs and child._runner.claims.needs_reconcile
    wavering.bury(child)
    wavering.child = Finite(child.serial + 1, child.worker_id)
    wavering.check()
    assert Job.objects.get(pk=first.id).state == "cancelled" and not runs
