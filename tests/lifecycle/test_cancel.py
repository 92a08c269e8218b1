"""Cancel, against children that claim and enqueuers that push at the same time."""

from __future__ import annotations

import time
from uuid import UUID, uuid4

import pytest
import redis
from django.db import transaction

from bench.runtime.servers import RedisServer
from queue_app import clock
from queue_app.dispatch import connection, keys, queues, workers
from queue_app.exceptions import StoreUnavailable
from queue_app.lifecycle import enqueue, operate, push, release
from queue_app.lifecycle.recovery import rebuild, sweep
from queue_app.models import Attempt, Job
from queue_app.models.sql.rows import NewJobs
from tests.app import tasks
from tests.support.jobs import Child, die, drain, failed, jobs, states
from tests.support.marks import committed

pytestmark = committed


# cancel


def test_the_cost_of_a_cancellation_does_not_depend_on_what_waits(clean_redis: redis.Redis) -> None:
    """What Redis does for one job, by its own count, and that no list is searched."""

    def cancel_one() -> dict[str, int]:
        (job_id,) = jobs(1)
        clean_redis.config_resetstat()
        assert operate.cancel([job_id]).done == [job_id]
        found = clean_redis.info("commandstats")
        return {name: stats["calls"] for name, stats in found.items() if "config" not in name}

    rebuild.at_once(connection.client())
    cancel_one()  # the script is loaded
    alone = cancel_one()
    jobs(3_000)
    assert cancel_one() == alone
    assert not {name for name in alone if name.startswith(("cmdstat_lr", "cmdstat_lpos", "cmdstat_lindex"))}


def test_a_cancelled_job_is_never_handed_out() -> None:
    first, second, third = jobs(3)
    answer = operate.cancel([second])
    assert (answer.done, answer.refused) == ([second], {})
    assert drain() == [first, third]
    job = Job.objects.get(pk=second)
    assert job.state == "cancelled" and job.finished_at is not None
    assert not Attempt.objects.exists()


@pytest.mark.parametrize("seconds", [30, 9_999], ids=["loaded", "kept in the record"])
def test_a_delayed_job_is_cancelled_before_its_time(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = tasks.noop.using(run_after=seconds).enqueue().id
    assert operate.cancel([job_id]).done == [job_id]
    monkeypatch.setattr(clock.current, "source", lambda source=clock.current.source: source() + seconds + 1)
    child = Child()
    assert release.load_due(child.client) == 0
    assert queues.claim(child.client, "default", child.holder, 5, now=clock.seconds())[0] == []


def test_nothing_is_left_of_a_cancelled_job_whose_holder_redis_has_lost() -> None:
    (job_id,) = jobs(1)
    child = Child()
    child.claim()
    child.client.delete(keys.held("default", child.holder))
    assert operate.cancel([job_id]).done == [job_id]
    assert not child.client.exists(keys.body("default"))


def test_a_job_between_two_attempts_is_cancelled() -> None:
    (job_id,) = jobs(1)
    child = Child()
    child.end(*child.claim(), make=lambda d: failed(d, run_at=clock.seconds() + 30))
    assert states([job_id]) == ["retrying"]
    assert operate.cancel([job_id]).done == [job_id]
    assert queues.claim(child.client, "default", child.holder, 5, now=clock.seconds() + 60)[0] == []


def test_what_has_been_claimed_is_asked_to_end_even_before_its_row_says_running() -> None:
    held, waiting = jobs(2)
    child = Child()
    (delivery,) = child.claim()
    answer = operate.cancel([held, waiting])
    assert (answer.done, answer.requested, answer.refused) == ([waiting], [held], {})
    assert states([held]) == ["queued"]
    assert Job.objects.get(pk=held).cancel_requested_at is not None
    assert workers.to_interrupt(child.client, child.worker_id, 1) == [held]
    assert child.end(delivery) == {held}
    assert states([held]) == ["succeeded"]


def test_what_cannot_be_cancelled_is_refused_with_the_reason() -> None:
    (dead,) = die()
    (cancelled,) = jobs(1)
    operate.cancel([cancelled])
    missing = str(uuid4())
    answer = operate.cancel([dead, cancelled, missing])
    assert answer.done == []
    assert answer.refused == {
        dead: "It is failed already.",
        cancelled: "It is cancelled already.",
        missing: "There is no such job.",
    }


def test_ids_may_be_uuids_or_text_in_any_notation() -> None:
    one, two, three = jobs(3)
    answer = operate.cancel([UUID(one), two.upper(), UUID(three).hex])
    assert sorted(answer.done) == [one, two, three]
    assert answer.refused == {}


def test_what_is_no_id_is_refused_and_stops_nothing() -> None:
    (job_id,) = jobs(1)
    answer = operate.cancel(["nonsense", job_id])
    assert answer.done == [job_id]
    assert list(answer.refused) == ["nonsense"]


def test_many_are_cancelled_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operate, "ROWS_PER_TRANSACTION", 7)
    ids = jobs(20)
    assert operate.cancel(ids).done == ids
    assert set(states(ids)) == {"cancelled"}
    assert drain() == []


def test_nothing_is_cancelled_while_redis_is_away(redis_process: RedisServer) -> None:
    ids = jobs(2)
    redis_process.kill()
    with pytest.raises(
        StoreUnavailable, match=r"^Nothing was cancelled: Redis at unix://.* cannot be reached"
    ):
        operate.cancel(ids)
    assert set(states(ids)) == {"queued"}


def test_a_cancellation_that_was_rolled_back_leaves_the_job_to_the_sweep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (job_id,) = jobs(1)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        operate.cancel([job_id])
        raise ZeroDivisionError
    assert states([job_id]) == ["queued"]
    monkeypatch.setattr(clock.current, "source", lambda source=clock.current.source: source() + 60.0)
    client = Child().client
    sweep.push_missing_backlog(client)
    assert drain() == [], "for all that Redis knows, it is being cancelled"
    client.zadd(keys.cancelled("default"), {job_id: time.time() - 61})
    sweep.push_missing_backlog(client)
    assert drain() == [job_id]
    assert not client.exists(keys.cancelled("default"))


def test_a_job_cancelled_between_its_commit_and_its_push_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    push = enqueue.push_committed
    committed: list[list[NewJobs]] = []
    with monkeypatch.context() as patched:
        patched.setattr(enqueue, "push_committed", committed.append)
        (job_id,) = jobs(1)
    assert operate.cancel([job_id]).done == [job_id]
    push(committed[0])
    assert drain() == []


def test_a_job_cancelled_while_the_sweep_looks_at_it_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(push, "push_quietly", lambda by_queue, made: set())
        (job_id,) = jobs(1)
    client = Child().client
    restore = queues.restore

    def cancelled_first(*args: object) -> int:
        assert operate.cancel([job_id]).done == [job_id]
        return restore(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(queues, "restore", cancelled_first)
    release.restore(client, [(UUID(job_id), "default")])
    assert states([job_id]) == ["cancelled"]
    assert drain() == []
