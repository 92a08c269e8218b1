"""A whole life of jobs in the test's own process, store call by store call, and what must be true at its end."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from django.db import DatabaseError, close_old_connections, connections

from queue_app import clock
from queue_app.dispatch import connection, epochs, keys, workers
from queue_app.domain import ids
from queue_app.lifecycle import push, redis_breaker, release, settle
from queue_app.lifecycle.database import refresh
from queue_app.lifecycle.recovery import rebuild, recover, sweep
from queue_app.models import Attempt, DeadLetter, Job
from queue_app.worker.child import backoff, recorder
from queue_app.worker.child.child import Child
from queue_app.worker.child.slots import MainThread
from queue_app.worker.config import QueueChoice, WorkerConfig
from queue_app.worker.shared_state import SharedState
from tests.app.counted_tasks import effect, runs
from tests.support.epochs import begin_epoch
from tests.support.faults import Died, Stores

#: What its worker serves.
QUEUES = ("default", "mail")


class _Slots(MainThread):
    """Records after each batch, in this thread."""

    def run(self, deliveries: list) -> None:  # type: ignore[type-arg]
        super().run(deliveries)
        self._runner.recorder.flush()


class Finite(Child):
    """The child of a worker, without its threads: it ends when nothing is left to do soon."""

    def __init__(self, serial: int = 1, worker_id: str | None = None, slots: int = 1) -> None:
        config = WorkerConfig(
            worker_id=worker_id or ids.new_text(), queues=QueueChoice(QUEUES, None), slots=slots
        )
        self.shared = SharedState(1, slots)
        super().__init__(config, self.shared, 0, serial)
        self.serial, self.worker_id = serial, config.worker_id

    def serve(self) -> None:
        """Work until nothing is left."""
        self._stopping = False
        self._serve(_Slots(self._runner, self._is_stopping))

    def _wait(self, claimed: object) -> None:
        if claimed.next_due is None and not self._runner.claims.needs_reconcile:  # type: ignore[attr-defined]
            self._stopping = True
        else:
            super()._wait(claimed)  # type: ignore[arg-type]

    def _sleep(self, seconds: float) -> None:
        """Stores in tests return at once."""

    def cause(self) -> recover.Cause:
        """What its supervisor would say of its death."""
        running = {r.id: r.started_at for r in self.shared.running(0)}
        return recover.Cause("killed by SIGKILL", running=running)


class World:
    """Enqueuers, a worker and the duties, where each call of a store may fail."""

    def __init__(self, stores: Stores, client: redis.Redis) -> None:
        self.stores = stores
        self.client = client
        self.child = Finite()
        self.committed: list[str] = []  # what an enqueue that returned has promised
        self.died = False

    def do(self, step: Callable[[], object]) -> None:
        """One step of some process, which may see an error of the database, or die."""
        try:
            step()
        except (DatabaseError, *connection.Unavailable):
            close_old_connections()  # as at the end of a request
        except Died:
            self.died = True
            self.stores.revive()

    def again(self, step: Callable[[], object]) -> None:
        """A step that is repeated until it succeeds, by whoever takes it over."""
        for _ in range(3):
            try:
                step()
                return
            except (
                Exception
            ):  # the keeper and the leader survive any, such as a driver's own when a cursor is closed
                refresh(close=True)
            except Died:
                self.died = True
                self.stores.revive()
        raise AssertionError("one fault, and three tries failed")

    def serve(self) -> None:
        """The child works; one that dies is buried by its keeper, and replaced."""
        try:
            self.child.serve()
        except Died:
            self.died = True
            self.stores.revive()
            dead = self.child
            self.again(lambda: self.bury(dead))
            self._replace(dead)
            self.child.serve()

    def bury(self, dead: Finite) -> None:
        holder = workers.holder(dead.worker_id, dead.serial)
        recover.take_back(connection.client(), holder, QUEUES, dead.worker_id, dead.cause())

    def stop(self) -> None:
        """The child claims three jobs, and is told to stop before it starts one."""
        child = self.child

        def claim() -> None:
            child._runner.prefetch.extend(child._claim(3).deliveries)
            child._runner.give_back()

        try:
            self.do(claim)
        finally:
            if self.died:
                self.again(lambda: self.bury(child))
                self.child = Finite(child.serial + 1, child.worker_id)
            else:
                child._runner.claims.mark_unsure(QUEUES)  # `_serve` does this where a claim fails

    def die(self) -> Finite:
        """The child dies with four jobs in its hands: one under way, one whose failure is recorded, one whose success
        is, and one that it has not started. No call of a store fails meanwhile."""
        dead = self.child
        with self.stores.asleep():
            first, second, third, _ = dead._claim(4).deliveries
            for delivery in (second, third):
                dead._runner.run_one(0, delivery)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(settle, "acknowledge", lambda *args: None)
                dead._runner.recorder.flush()
            runs.append((first.id, first.number))
            dead.shared.start(0, 0, first.id, first.number, clock.seconds(), 0.0)
        self._replace(dead)
        return dead

    def lose_machine(self) -> None:
        """The child's whole worker dies, with jobs in its hands. No call of a store fails meanwhile."""
        dead = self.child
        with self.stores.asleep():
            for delivery in dead._claim(3).deliveries:
                runs.append((delivery.id, delivery.number))
            at = workers.now(connection.client()) - 60
            self.client.hset(keys.workers(), dead.worker_id, f"{at!r}|{','.join(QUEUES)}")
        self.died = True
        self.child = Finite()

    def reap(self) -> None:
        recover.reap(connection.client(), self.child.worker_id)

    def _replace(self, dead: Finite) -> None:
        self.died = True
        self.child = Finite(dead.serial + 1, dead.worker_id)

    def have(self, count: int = 1, *, pushed: bool = True, failures: int = 0, **options: Any) -> None:
        """Jobs that are there already.

        Args:
            pushed: False: their process died between commit and push.
            failures: attempts that each fails.
        """
        with self.stores.asleep(), pytest.MonkeyPatch.context() as patch:
            if not pushed:
                patch.setattr(push, "push_quietly", lambda by_queue, made: set())
            found = effect.using(**options).enqueue_many([((), {"failures": failures})] * count)
            self.committed += [result.id for result in found]

    def begin_rebuild(self) -> None:
        """The leader finds that Redis has lost its data, and drops what is stale."""
        client = connection.client()
        for shard, epoch in epochs.read(client).items():
            if epoch.lost:
                rebuild.begin(client, shard, epochs.life_of_server(client))

    def duties(self) -> None:
        """What the leader does."""
        client = connection.client()
        if any(epoch.lost or epoch.phase != epochs.WHOLE for epoch in epochs.read(client).values()):
            rebuild.at_once(client)
        else:
            clock.travel(lambda: time.time() + 60)  # what was just made is old enough
            try:
                sweep.push_missing_backlog(client)
            finally:
                clock.travel()
            release.load_due(client)
        release.promote_due(client)

    def come_right(self) -> None:
        """Faults are over; what every worker does now and then brings everything to its end."""
        for _ in range(4):
            self.duties()
            self.serve()
            if not Job.objects.exclude(state="succeeded").exists() and not self.left():
                return

    def left(self) -> list[str]:
        """What is in Redis about jobs."""
        found = []
        for queue in QUEUES:
            names = [keys.body(queue), keys.due(queue), keys.levels(queue)]
            for pattern in ("held", "ready", "lanes"):
                names += [key.decode() for key in self.client.scan_iter(f"{keys.base(queue)}{pattern}:*")]
            found += [name for name in names if self.client.exists(name)]
        return found

    def check(self) -> None:
        """Every committed job has ended once, nothing ran twice, nothing is left."""
        self.come_right()
        rows = {str(job.pk): job for job in Job.objects.all()}
        assert set(self.committed) <= set(rows), "a committed job is gone"
        assert {job.state for job in rows.values()} <= {"succeeded"}, sorted(
            (job.state, job.attempt) for job in rows.values()
        )
        # What had run, and was not recorded when its process died, runs again; nothing else does.
        twice = [pair for pair, count in Counter(runs).items() if count > 1 + self.died]
        assert not twice, f"attempts that ran twice: {twice}"
        assert {job_id for job_id, _ in runs} == set(rows), "one that was rolled back ran, or one did not"
        history: dict[str, list[tuple[int, str]]] = {job_id: [] for job_id in rows}
        uncounted: Counter[str] = Counter()
        for job_id, number, state, error in Attempt.objects.order_by("number").values_list(
            "job_id", "number", "state", "error"
        ):
            history[str(job_id)].append((number, state))
            uncounted[str(job_id)] += error.startswith("no heartbeat")
        for job_id, attempts in history.items():
            job = rows[job_id]
            assert [number for number, _ in attempts] == list(range(1, job.attempt + 1))
            assert [state for _, state in attempts].count("succeeded") == 1
            assert attempts[-1][1] == "succeeded"
            lost = [state for _, state in attempts].count("lost")
            assert lost >= job.deaths + uncounted[job_id] and (self.died or not lost), "lost, and nobody died"
            assert not job.suspect, "it has succeeded"
            ran = {number for found, number in runs if found == job_id}
            assert ran >= {n for n, state in attempts if state != "lost"}, "an attempt that did not run"
            assert ran <= {n for n, _ in attempts}, "a run that was no attempt"
        assert not DeadLetter.objects.exists()
        assert not self.left(), "left in Redis"

    def clear(self) -> None:
        """An empty world for the next fault."""
        for model in (Attempt, DeadLetter, Job):
            model.objects.all().delete()
        self.client.flushall()
        begin_epoch()
        runs.clear()
        redis_breaker.breaker.reset()
        push.listed_queues.reset()


@contextlib.contextmanager
def impatient() -> Iterator[None]:
    """No pauses between tries."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (recorder, backoff):
            patch.setattr(module, "FIRST_PAUSE_SECONDS", 0.001)
        patch.setattr(redis_breaker, "OPEN_SECONDS", 0.0)
        patch.setitem(
            connections["default"].settings_dict, "CONN_MAX_AGE", None
        )  # connecting takes most of the time
        try:
            yield
        finally:
            refresh(close=True)  # one that a fault has broken must not break what follows
