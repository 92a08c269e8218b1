"""A push that comes late, or twice, never runs a job again that has ended."""

from __future__ import annotations

import time
from typing import Any

import pytest
import redis
from django.db import transaction

from queue_app.dispatch import connection, epochs, finding, keys, queues
from queue_app.lifecycle import enqueue, operate, push, release
from queue_app.lifecycle.enqueue import Batch
from queue_app.lifecycle.entries import entries_of_waiting
from queue_app.lifecycle.recovery import rebuild
from queue_app.models import Job
from tests.app import tasks
from tests.support.epochs import begin_epoch
from tests.support.jobs import Child, drain, jobs, states
from tests.support.marks import committed

pytestmark = committed


@pytest.fixture
def pushes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The pushes of this test, which do not take place before it says so."""
    found: list[Any] = []
    monkeypatch.setattr(enqueue, "push_committed", found.append)
    return found


def carry_out(pushes: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for batches in pushes:
        enqueue.push_committed(batches)


def restore(job_id: str) -> int:
    return release.restore(connection.client(), [(job_id, "default")])


def test_a_push_of_a_frozen_process_is_not_made_again(
    pushes: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (job_id,) = jobs(1)
    assert restore(job_id) == 1, "the sweep was there before"
    child = Child()
    child.end(*child.claim())
    carry_out(pushes, monkeypatch)
    assert drain() == [] and states([job_id]) == ["succeeded"]


def test_a_push_older_than_its_time_reads_the_rows_first(
    pushes: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, waiting = jobs(2)
    restore(ended)
    child = Child()
    child.end(*child.claim())
    old = time.monotonic() - queues.DIRECT_PUSH_SECONDS - 1
    batches: list[Batch] = [batch._replace(made=old) for batch in pushes.pop()]
    connection.client().delete("{jq:main}:default:restored")  # as a minute later
    pushes.append(batches)
    carry_out(pushes, monkeypatch)
    assert drain() == [waiting]


def test_a_long_transaction_pushes_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(queues, "DIRECT_PUSH_SECONDS", 0.0)
        with transaction.atomic():
            job_id = tasks.noop.enqueue().id
        assert drain() == [job_id]


def test_the_same_push_on_its_way_twice_is_one() -> None:
    entry = ("01a20e00-0000-7000-8000-000000000001", 0.0, "0:-|x")
    made = time.monotonic()
    client = connection.client()
    assert queues.push(client, "mail", [entry], made) == 1
    assert queues.settle(client, "mail", "w.1", [], []) == 0
    client.hdel("{jq:main}:mail:body", entry[0])  # it has been claimed, and has ended
    assert queues.push(client, "mail", [entry], made) == 0
    assert not client.hexists("{jq:main}:mail:body", entry[0])


# after a loss of Redis's data


@pytest.mark.parametrize("swept", [False, True], ids=["pushed", "swept"])
def test_one_made_before_a_loss_does_not_run_again_what_has_ended(
    swept: bool, pushes: list[Any], monkeypatch: pytest.MonkeyPatch, clean_redis: redis.Redis
) -> None:
    """With the data went what Redis knew of pushes and sweeps. The packet is late, or repeated on its way."""
    (job_id,) = jobs(1)
    client = connection.client()
    ((batch,),) = pushes
    if swept:
        assert restore(job_id) == 1
    else:
        assert queues.push(client, "default", batch.entries, batch.made) == 1
    child = Child()
    child.end(*child.claim())
    clean_redis.flushall()
    assert rebuild.at_once(client) == 0
    assert queues.push(client, "default", batch.entries, batch.made) is None
    carry_out(pushes, monkeypatch)
    assert drain() == [] and states([job_id]) == ["succeeded"]


def test_one_made_before_a_loss_reads_the_rows(
    pushes: list[Any], monkeypatch: pytest.MonkeyPatch, clean_redis: redis.Redis
) -> None:
    first, cancelled, third = jobs(3)
    clean_redis.flushall()
    begin_epoch(to=epochs.FILLING)
    assert operate.cancel([cancelled]).done == [cancelled]
    clean_redis.delete(keys.cancelled("default"))
    carry_out(pushes, monkeypatch)
    assert drain() == [first, third]


@pytest.mark.parametrize("phase", [epochs.CLOSED, epochs.FILLING, epochs.WHOLE])
def test_one_made_after_a_loss_is_direct(
    phase: str, clean_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean_redis.flushall()
    begin_epoch(to=phase)
    monkeypatch.setattr(release, "restore", lambda *args: pytest.fail("the rows were read"))
    (job_id,) = jobs(1)
    assert connection.client().hkeys(keys.body("default")) == [job_id]


# sweeps


def test_of_two_sweeps_one_pushes() -> None:
    """One is frozen between its look and its push. Meanwhile the other pushes, and the job runs and ends."""
    client = connection.client()
    (job_id,) = jobs(1)
    client.delete("{jq:main}:default:body", "{jq:main}:default:ready:0:-", "{jq:main}:default:lanes:0")
    client.delete("{jq:main}:default:levels")
    found = finding.missing(client, {"default": [job_id]})
    (entry,) = entries_of_waiting([job_id])
    assert restore(job_id) == 1
    child = Child()
    child.end(*child.claim())
    assert queues.restore(client, {"default": ([entry], found["default"][1])}) == 0
    assert drain() == [] and Job.objects.get().attempt == 1


def test_a_sweep_leaves_what_is_announced_between_its_look_and_its_push() -> None:
    """A keeper was late: it says now what its child runs."""
    (job_id,) = jobs(1)
    child = Child()
    (delivery,) = child.claim(1)
    client = child.client
    client.delete(keys.held("default", child.holder))
    found, stamp = finding.missing(client, {"default": [job_id]})["default"]
    assert found == [job_id]
    queues.hold(client, "default", child.holder, 1.7e9, {job_id: delivery.raw})
    assert queues.restore(client, {"default": ([(job_id, 0.0, delivery.raw)], stamp)}) == 0
    assert child.held() == {job_id} and drain() == []
    child.end(delivery)
    assert queues.restore(client, {"default": ([(job_id, 0.0, delivery.raw)], stamp)}) == 0
    assert drain() == [] and states([job_id]) == ["succeeded"]
    assert queues.push(client, "default", [(job_id, 0.0, delivery.raw)]) == 0, "a push may be under way"


def test_what_is_remembered_of_sweeps_is_forgotten_after_a_minute(pushes: list[Any]) -> None:
    (job_id,) = jobs(1)
    client, name = connection.client(), keys.restored("default")
    ((batch,),) = pushes
    stamp = finding.missing(client, {"default": [job_id]})["default"][1]
    client.zadd(name, {job_id: float(stamp) - 61e6})
    assert queues.restore(client, {"default": (batch.entries, stamp)}) == 0, "another one came after it"
    finding.missing(client, {"default": ["another"]})
    assert client.zrange(name, 0, -1) == ["another"]
    assert restore(job_id) == 1 and drain() == [job_id]


# clocks


def test_the_time_of_day_of_this_host_has_no_part_in_it(
    pushes: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be wrong, or be set meanwhile."""
    ids = jobs(2)
    ((batch,),) = pushes
    for seconds, entry in ((-3_600, batch.entries[0]), (3_600, batch.entries[1])):
        with monkeypatch.context() as patched:
            patched.setattr(time, "time", lambda seconds=seconds, source=time.time: source() + seconds)
            assert queues.push(connection.client(), "default", [entry], time.monotonic()) == 1
    assert drain() == ids


def test_clocks_are_compared_again_after_a_slow_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis's clock is at least what its answer says: of several answers the latest is the nearest."""
    found = iter([10.0, 12.0, 11.0, 13.0, 14.0])
    monkeypatch.setattr(connection, "_ask_once", lambda asked: connection.ServerFacts("", next(found)))
    client = connection.client()
    monkeypatch.setattr(connection, "PROMPT", 0.0)
    assert connection.fresh(client).clock == 12.0
    monkeypatch.setattr(connection, "PROMPT", 60.0)
    assert connection.fresh(client).clock == 13.0


def test_a_process_whose_clock_was_set_goes_on_pushing() -> None:
    """The comparison of clocks is of an older time: it is made anew, and the job waits for its rows to be read once."""
    client = connection.client(push.PUSH_TIMEOUT)
    jobs(1)
    own = connection.take(client)
    own.queue_app_server = connection.ServerFacts(
        own.queue_app_server.run_id, own.queue_app_server.clock - 3_600
    )
    connection.put(client, own)
    ids = jobs(1)
    own = connection.take(client)
    connection.put(client, own)
    assert ids[0] in drain()
    assert abs(own.queue_app_server.clock + time.monotonic() - time.time()) < 60


def test_a_push_is_not_direct_after_the_clock_of_redis_was_set_back() -> None:
    """Its age is not known then: it seems to come before it was made."""
    client, ahead = connection.client(), time.monotonic() + 60
    assert queues.push(client, "default", [("some-id", 0.0, '0:-|["t"]')], ahead) is None
