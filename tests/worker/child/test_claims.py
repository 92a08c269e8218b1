"""A living child holds in Redis only what it has in its hands, whatever answers it lost: nothing hangs for ever, and
nothing that runs is given to another child."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from bench.runtime.servers import RedisServer
from queue_app import clock, signals
from queue_app.dispatch import connection, keys, queues, set_aside
from queue_app.dispatch.holder import Holder, revoke_calls
from queue_app.lifecycle import claim as claiming
from queue_app.lifecycle import settle
from queue_app.lifecycle.recovery import rebuild, recover
from queue_app.models import Attempt, Job
from queue_app.worker.child.claims import ClaimSet
from queue_app.worker.child.recorder import Recorder
from tests.app import atomic_tasks, tasks
from tests.app.models import Effect
from tests.support.draining import run_due
from tests.support.epochs import begin_epoch
from tests.support.faults import AFTER, BEFORE, Stores
from tests.support.jobs import (
    OTHER_WORKER,
    WORKER,
    Child,
    drain,
    failed,
    jobs,
    states,
    stores_heard,
    succeeded,
)
from tests.support.lives import Finite
from tests.support.marks import committed

pytestmark = committed


@pytest.fixture
def child() -> Child:
    return Child()


@pytest.fixture
def claims(child: Child) -> ClaimSet:
    return ClaimSet(child.holder)


def test_a_claim_whose_answer_was_lost_goes_back(
    child: Child, claims: ClaimSet, redis_process: RedisServer
) -> None:
    ids = jobs(5)
    mine = child.claim(2)
    claims.add(mine)
    stores = Stores(redis_process)
    with stores.failing(0, AFTER), pytest.raises(Exception, match="injected"):
        child.claim(2)
    assert stores.hit == "redis claim"
    assert child.held() == set(ids[:4])
    claims.mark_unsure(["default"])
    assert claims.needs_reconcile
    assert claims.reconcile(child.client) == 2
    assert child.held() == set(ids[:2])
    assert not claims.needs_reconcile, "it costs nothing where nothing has failed"
    assert drain() == ids[2:], "to the front, in their order"


def test_a_claim_over_queues_that_fails_in_the_midst_loses_nothing(
    child: Child, claims: ClaimSet, redis_process: RedisServer
) -> None:
    mail = [tasks.noop.using(queue_name="mail").enqueue().id for _ in range(2)]
    other = jobs(1)
    with Stores(redis_process).failing(1, BEFORE), pytest.raises(Exception, match="injected"):
        claiming.claim(child.client, ["mail", "default"], child.holder, 10)
    assert child.held("mail") == set(mail)
    claims.mark_unsure(["mail", "default"])
    assert claims.reconcile(child.client) == 2
    assert (drain(queue="mail"), drain()) == (mail, other)


@pytest.mark.parametrize("verb", ["claim", "settle", "give_back", "park"])
def test_what_arrives_late_is_refused(child: Child, claims: ClaimSet, verb: str) -> None:
    """It was sent before things were put right, and waited in a socket since."""
    late = Holder(child.holder)
    ids = jobs(2)
    (running,) = child.claim(1)
    claims.add([running])
    claims.mark_unsure(["default"])
    assert claims.reconcile(child.client) == 0
    calls: dict[str, Callable[[], object]] = {
        "claim": lambda: queues.claim(child.client, "default", late, 1),
        "settle": lambda: queues.settle(child.client, "default", late, [running.id]),
        "give_back": lambda: queues.give_back(child.client, "default", late, [running.id]),
        "park": lambda: set_aside.put(child.client, "default", late, "|no.task", [running.id]),
    }
    with pytest.raises(connection.Fenced):
        calls[verb]()
    assert child.held() == {running.id} == {ids[0]}
    queues.settle(child.client, "default", child.holder, [running.id])
    assert not child.held(), "the next call of the same child counts"
    assert drain() == ids[1:]


def test_a_claim_of_the_dead_is_refused(child: Child) -> None:
    """Their keeper has buried them: nobody would ever take back what it held."""
    ids = jobs(1)
    recover.take_back(child.client, str(child.holder), ["default"], WORKER, recover.Cause("killed"))
    with pytest.raises(connection.Fenced):
        child.claim()
    assert drain() == ids


def test_a_refused_acknowledgement_leaves_a_doubt(child: Child, claims: ClaimSet) -> None:
    """The child was given up for dead, and lives."""
    (job_id,) = jobs(1)
    (delivery,) = child.claim()
    claims.add([delivery])
    revoke_calls(child.client, "default", str(child.holder))
    recorder = Recorder(WORKER, child.holder, claims=claims)
    recorder.put(succeeded(delivery))
    with stores_heard() as said:
        recorder.flush()
    assert claims.needs_reconcile and child.held() == {job_id} and not said
    assert claims.reconcile(child.client) == 1
    assert not child.held() and states([job_id]) == ["succeeded"]


def test_a_fence_only_grows(child: Child, clean_redis: redis.Redis) -> None:
    """Although its key expires, and although Redis loses it."""
    revoke_calls(child.client, "default", child.holder)
    first = child.holder.fences["default"]
    clean_redis.flushall()
    begin_epoch()
    late = Holder(child.holder)
    late.fences["default"] = first
    revoke_calls(child.client, "default", child.holder)
    assert child.holder.fences["default"] > first
    with pytest.raises(connection.Fenced):
        queues.claim(child.client, "default", late, 1)
    revoke_calls(child.client, "default", str(child.holder))  # by a keeper, who does not know the number
    with pytest.raises(connection.Fenced):
        child.claim()


def test_what_is_claimed_again_while_its_last_outcome_waits_stays_held(
    child: Child, claims: ClaimSet
) -> None:
    """The child was given up for dead, and its job was given back to this very child."""
    (job_id,) = jobs(1)
    (first,) = child.claim()
    claims.add([first])
    silence(child)
    recover.reap(child.client, OTHER_WORKER)
    claims.mark_unsure(["default"])
    claims.reconcile(child.client)
    (second,) = child.claim()
    claims.add([second])
    assert (second.id, second.number) == (job_id, 2)
    recorder = Recorder(WORKER, child.holder, claims=claims)
    recorder.put(succeeded(first))
    recorder.flush()
    assert child.held() == {job_id}
    recorder.put(succeeded(second))
    recorder.flush()
    assert not child.held() and states([job_id]) == ["succeeded"]


def silence(child: Child) -> None:
    child.client.hset(keys.workers(), child.worker_id, "1.0|default")


def test_what_still_runs_is_not_run_beside_itself() -> None:
    """The same, and its first attempt is not over yet."""
    living = Finite(slots=2)
    (job_id,) = jobs(1)
    (first,) = living._claim(1).deliveries
    living._runner.running.start(0, first, None)
    revoke_calls(connection.client(), "default", str(living._holder))
    recover.give_up(connection.client(), str(living._holder), [first])
    with pytest.raises(connection.Fenced):
        living._claim(1)
    living._runner.claims.mark_unsure(["default"])  # as `_serve` does it
    assert living._claim(1).deliveries == []
    living._runner.recorder.put(succeeded(first))
    living._runner.recorder.flush()
    assert states([job_id]) == ["succeeded"]
    assert not Child(1, living.worker_id).held()


def test_a_loss_that_another_slot_has_looked_into_counts_here_too(
    clean_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found between the backlog and the board, where no look at either finds it."""
    living = Finite(slots=2)
    one, other = claimed_by(living, 2)
    runner, known = living._runner, living._runner.unknown_tasks.known
    taken = runner.prefetch.take()
    assert taken is not None and taken.id == one

    def meanwhile(delivery: Any) -> Any:
        monkeypatch.setattr(runner.unknown_tasks, "known", known)
        clean_redis.flushall()
        living.shared.flag_data_loss(0)
        beside = runner.prefetch.take()
        assert beside is not None
        runner.run_one(1, beside)
        return known(delivery)

    monkeypatch.setattr(runner.unknown_tasks, "known", meanwhile)
    runner.run_one(0, taken)
    runner.recorder.flush()
    assert states([one, other]) == ["queued"] * 2 and not Attempt.objects.exists()


def claimed_by(living: Finite, count: int) -> list[str]:
    """Jobs in a child's backlog."""
    ids = jobs(count)
    living._runner.prefetch.extend(living._claim(count).deliveries)
    return ids


def run_backlog(living: Finite) -> None:
    while (delivery := living._runner.prefetch.take()) is not None:
        living._runner.run_one(0, delivery)
    living._runner.recorder.flush()


@pytest.mark.parametrize("how", ["told by its keeper", "after a standstill"])
def test_a_backlog_that_others_got_meanwhile_does_not_begin(clean_redis: redis.Redis, how: str) -> None:
    living = Finite()
    ids = claimed_by(living, 3)
    clean_redis.flushall()
    rebuild.at_once(connection.client())
    others = Child(1, OTHER_WORKER).claim(2)
    if how == "told by its keeper":
        living.shared.flag_data_loss(0)
    else:
        living._runner.claims.since -= 60
    run_backlog(living)
    assert set(states(ids)) == {"queued"} and not Attempt.objects.exists()
    assert [d.id for d in others] == ids[:2] and drain() == ids[2:]
    assert not living._runner.claims.revoked, "forgotten with its delivery"


def test_an_atomic_job_that_others_got_meanwhile_does_not_begin(clean_redis: redis.Redis) -> None:
    living = Finite()
    job_id = atomic_tasks.effect.enqueue().id
    living._runner.prefetch.extend(living._claim(1).deliveries)
    clean_redis.flushall()
    living.shared.flag_data_loss(0)
    run_backlog(living)
    assert states([job_id]) == ["queued"] and not Effect.objects.exists()


def test_a_backlog_that_is_still_its_own_runs(clean_redis: redis.Redis) -> None:
    living = Finite()
    ids = claimed_by(living, 3)
    living.shared.flag_data_loss(0)
    run_backlog(living)
    assert set(states(ids)) == {"succeeded"}


def test_a_recorded_job_that_was_not_acknowledged_is_let_go_of(child: Child, claims: ClaimSet) -> None:
    done, retried, dead, unstarted = jobs(4, task=tasks.fail)
    deliveries = child.claim(4)
    at = clock.seconds() - 1
    settle.record([succeeded(deliveries[0]), failed(deliveries[1], run_at=at)], WORKER)
    Job.objects.filter(pk=dead).delete()
    claims.mark_unsure(["default"])
    claims.reconcile(child.client)
    assert not child.held()
    again = Child(serial=2).claim(9)
    assert {(d.id, d.number) for d in again} == {(retried, 2), (unstarted, 1)}
    assert states([done]) == ["succeeded"]


def test_an_acknowledgement_is_not_repeated_at_the_next_attempt(
    child: Child, claims: ClaimSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was carried out, its answer lost, and this very child has claimed the next attempt meanwhile."""
    (job_id,) = jobs(1, task=tasks.fail)
    (first,) = child.claim()
    claims.add([first])
    recorder = Recorder(WORKER, child.holder, claims=claims)
    recorder.put(failed(first, run_at=clock.seconds() - 1))
    real = settle.acknowledge

    def lost(*args: Any) -> None:
        real(*args)
        claims.add(child.claim())
        raise ConnectionError("the answer is lost")

    with monkeypatch.context() as patch:
        patch.setattr(settle, "acknowledge", lost)
        recorder.flush()
    assert claims.needs_reconcile
    recorder.start()
    recorder.stop()
    assert child.held() == {job_id}, "the second attempt is under way"
    assert drain() == [], "and nobody else gets it"
    assert list(Attempt.objects.values_list("number", "state")) == [(1, "failed")]


@pytest.mark.parametrize("fate", [BEFORE, AFTER])
def test_a_give_back_whose_answer_is_lost_neither_loses_nor_doubles(
    child: Child, redis_process: RedisServer, fate: str
) -> None:
    ids = jobs(3)
    living = Finite()
    claimed = living._claim(3)
    living._runner.prefetch.extend(claimed.deliveries)
    with Stores(redis_process).failing(0, fate):
        living._runner.give_back()
    assert living._runner.claims.needs_reconcile
    living.serve()
    assert states(ids) == ["succeeded"] * 3
    assert list(Attempt.objects.values_list("number", flat=True)) == [1] * 3


def test_a_commit_whose_answer_was_lost_counts_as_one(
    child: Child, claims: ClaimSet, redis_process: RedisServer
) -> None:
    """What goes on is pushed at once, and nobody says that the outcome was refused."""
    (job_id,) = jobs(1, task=tasks.fail)
    (delivery,) = child.claim()
    claims.add([delivery])
    recorder = Recorder(WORKER, child.holder, claims=claims)
    recorder.put(failed(delivery, run_at=clock.seconds() - 1))
    stores = Stores(redis_process)
    refused: list[object] = []

    def hear(sender: object, outcomes: list[object], **more: Any) -> None:
        refused.extend(outcomes)

    signals.outcomes_refused.connect(hear)
    at = _commit_of(stores)
    with stores.failing(at, AFTER):
        recorder.flush()
    assert stores.hit == "sql COMMIT"
    (again,) = Child(serial=2).claim()
    assert (again.id, again.number) == (job_id, 2)
    assert not refused


def _commit_of(stores: Stores) -> int:
    """The number of the COMMIT among the calls of a flush of one failure."""
    jobs(1, task=tasks.fail)
    other = Child(serial=3)
    (delivery,) = other.claim()
    with stores.counting() as seen:
        settle.record([failed(delivery, run_at=clock.seconds() + 999)], WORKER)
    return seen.index("sql COMMIT")


def test_a_drain_that_loses_an_answer_leaves_nothing_behind(
    redis_process: RedisServer,
) -> None:
    run_due()  # the first one finds Redis empty
    ids = jobs(2)
    stores = Stores(redis_process)
    with stores.failing(0, AFTER, only="redis claim"), pytest.raises(Exception, match="injected"):
        run_due()
    assert stores.hit == "redis claim"
    assert drain() == ids


def test_a_drain_takes_over_from_the_dead() -> None:
    """Where drains are all that ever runs, nobody else would."""
    (job_id,) = jobs(1)
    dead = Child()
    dead.claim()
    dead.client.hset("{jq}:workers", WORKER, "1.0|default")
    run_due()
    assert states([job_id]) == ["succeeded"]
    assert list(Attempt.objects.order_by("number").values_list("state", flat=True)) == ["lost", "succeeded"]
