"""A push that comes late, or once more, runs no job again that has ended: its row is read first, or it is refused."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import redis
from django.db import transaction

from queue_app import clock
from queue_app.dispatch import connection, keys, queues
from queue_app.dispatch.queues import DIRECT, Entry
from queue_app.lifecycle import dispatching, enqueue, operate, rebuild, recover, release
from queue_app.lifecycle.enqueue import Batch
from tests import tasks
from tests.integration.support import Child, drain, jobs, states
from tests.support.marks import committed

pytestmark = committed


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[Entry]]:
    """A function that commits jobs, and is frozen before their push: it gives what is to be pushed."""

    def commit(count: int) -> list[Entry]:
        kept: list[Entry] = []

        def freeze(by_queue: dict[str, list[Entry]], made: float) -> set[str]:
            kept.extend(by_queue["default"])
            return set()

        with monkeypatch.context() as patched:
            patched.setattr(dispatching, "push_quietly", freeze)
            jobs(count)
        return kept

    return commit


def pushed(entries: list[Entry], seconds_ago: float) -> None:
    """It goes on, so many seconds after it wrote the rows."""
    enqueue.push([Batch("default", None, list(entries), time.monotonic() - seconds_ago)])


def swept(monkeypatch: pytest.MonkeyPatch) -> int:
    with monkeypatch.context() as patched:
        patched.setattr(clock, "_source", lambda source=clock._source: source() + 60)
        return recover.sweep(connection.client())[0]


def run(count: int) -> None:
    child = Child()
    deliveries = child.claim(count)
    assert len(deliveries) == count
    child.end(*deliveries)


def test_a_push_in_time_is_direct(
    frozen: Callable[[int], list[Entry]], monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = frozen(2)
    monkeypatch.setattr(release, "restore", lambda *args: pytest.fail("the rows were read"))
    pushed(entries, DIRECT - 2)
    assert drain() == [entry[0] for entry in entries]


def test_a_late_one_reads_the_rows(frozen: Callable[[int], list[Entry]]) -> None:
    entries = frozen(3)
    operate.cancel([entries[1][0]])
    pushed(entries, DIRECT + 1)
    assert drain() == [entries[0][0], entries[2][0]]


def test_a_late_one_does_not_run_again_what_has_ended(
    frozen: Callable[[int], list[Entry]], monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = frozen(4)
    assert swept(monkeypatch) == 4
    run(2)
    child = Child()
    child.claim(1)
    connection.client().delete(keys.restored("default"))  # a minute has passed
    pushed(entries, DIRECT + 1)
    assert child.held() == {entries[2][0]}
    assert drain() == [entries[3][0]]


def test_one_in_time_does_not_either_when_a_sweep_was_faster(
    frozen: Callable[[int], list[Entry]], monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = frozen(2)
    assert swept(monkeypatch) == 2
    run(2)
    pushed(entries, DIRECT - 2)
    assert drain() == []


def test_the_end_of_a_long_transaction_reads_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was open for longer than a direct push may take; its other jobs are of its last moments."""
    restored: list[str] = []
    quietly = release.restore_quietly

    def restore_quietly(found: list[tuple[str, str]]) -> None:
        restored.extend(job_id for job_id, _ in found)
        quietly(found)

    monkeypatch.setattr(release, "restore_quietly", restore_quietly)
    with transaction.atomic():
        with monkeypatch.context() as patched:
            now = time.monotonic
            patched.setattr(enqueue.time, "monotonic", lambda: now() - DIRECT - 1)
            early = jobs(1)
        late = jobs(1)
        other = [tasks.noop.using(queue_name="mail").enqueue().id]
    assert sorted(restored) == sorted(early + late + other)
    assert drain() == early + late and drain(queue="mail") == other
    assert states(early + late + other) == ["queued"] * 3


def test_the_same_push_once_more_does_nothing(frozen: Callable[[int], list[Entry]]) -> None:
    """It is repeated on its way, by a proxy that has lost the answer."""
    entries, client, made = frozen(3), connection.client(), time.monotonic()
    assert queues.push(client, "default", entries, made) == 3
    assert queues.push(client, "default", entries, made) == 0
    run(3)
    assert queues.push(client, "default", entries, made) == 0
    assert drain() == []
    assert client.pttl(f"{keys.base('default')}pushed:{entries[0][0]}") <= DIRECT * 1_000 + 1


def test_one_made_before_redis_lost_its_data_does_not_run_again_what_has_ended(
    frozen: Callable[[int], list[Entry]], monkeypatch: pytest.MonkeyPatch, clean_redis: redis.Redis
) -> None:
    """With the data went what Redis knew of pushes and sweeps."""
    entries, client, made = frozen(2), connection.client(), time.monotonic()
    assert swept(monkeypatch) == 2
    run(2)
    clean_redis.flushall()
    rebuild.at_once(client)
    assert not queues.push(client, "default", entries, made)
    assert drain() == []


def test_the_clock_of_this_host_has_no_part_in_it(
    frozen: Callable[[int], list[Entry]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time of day may be wrong, or be set meanwhile."""
    first, second = frozen(1), frozen(1)
    for seconds, entries in ((-3_600, first), (3_600, second)):
        with monkeypatch.context() as patched:
            patched.setattr(time, "time", lambda seconds=seconds, source=time.time: source() + seconds)
            pushed(entries, 1)
        assert drain() == [entries[0][0]]


def test_a_sweep_puts_back_what_was_held_and_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis has lost what a child held, and nothing else: the job is known, and is nowhere."""
    (job_id,) = jobs(1)
    child = Child()
    (delivery,) = child.claim(1)
    child.client.delete(keys.held("default", child.holder))
    assert queues.push(child.client, "default", [(job_id, 0.0, delivery.raw)]) == 0
    assert swept(monkeypatch) == 1
    assert swept(monkeypatch) == 0
    assert drain() == [job_id] and not child.held()


def test_a_sweep_leaves_what_is_announced_between_its_look_and_its_push() -> None:
    """A keeper was late: it says now what its child runs."""
    (job_id,) = jobs(1)
    child = Child()
    (delivery,) = child.claim(1)
    client = child.client
    client.delete(keys.held("default", child.holder))
    (found, stamp) = queues.missing(client, {"default": [job_id]})["default"]
    assert found == [job_id]
    queues.hold(client, "default", child.holder, 1.7e9, {job_id: delivery.raw})
    assert queues.restore(client, {"default": ([(job_id, 0.0, delivery.raw)], stamp)}) == 0
    assert child.held() == {job_id} and drain() == []


def test_a_sweep_does_not_bring_back_what_was_cancelled_between_its_look_and_its_push(
    frozen: Callable[[int], list[Entry]],
) -> None:
    (entry,) = frozen(1)
    client = connection.client()
    (_, stamp) = queues.missing(client, {"default": [entry[0]]})["default"]
    assert operate.cancel([entry[0]]).done == [entry[0]]
    assert queues.restore(client, {"default": ([entry], stamp)}) == 0
    assert drain() == []


def test_a_cancellation_that_was_rolled_back_is_made_good_after_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second, third = jobs(3)
    soon = tasks.noop.using(run_after=30).enqueue().id
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        assert operate.cancel([second, soon]).done == [second, soon]
        raise ZeroDivisionError
    client = connection.client()
    assert swept(monkeypatch) == 0, "its transaction may still be open"
    client.zadd(keys.cancelled("default"), {second: time.time() - 61, soon: time.time() - 61})
    assert swept(monkeypatch) == 1
    assert release.load_due(client) == 1
    assert queues.count(client, ["default"])["default"].listed == 3, "its stale place is gone"
    assert drain() == [first, third, second]
    assert client.zrange(keys.due("default"), 0, -1) == [soon]


def test_what_is_remembered_of_sweeps_is_forgotten_after_a_minute(
    frozen: Callable[[int], list[Entry]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (entry,) = frozen(1)
    client = connection.client()
    (_, stamp) = queues.missing(client, {"default": [entry[0]]})["default"]
    name = keys.restored("default")
    client.zadd(name, {entry[0]: float(stamp) - 61e6})
    assert queues.restore(client, {"default": ([entry], stamp)}) == 0, "it comes too late"
    queues.missing(client, {"default": ["another"]})
    assert client.zrange(name, 0, -1) == ["another"]
    assert swept(monkeypatch) == 1
    run(1)
    assert client.zscore(name, entry[0]) > float(stamp), "a push may be under way"
