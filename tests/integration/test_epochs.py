"""Redis's data are bound to the life of its server: nothing is run that is lost or has gone back in time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from queue_app.dispatch import connection, epochs, keys, queues, unknown
from queue_app.dispatch.connection import DataLost
from queue_app.lifecycle import operate, rebuild, release
from queue_app.models import Job
from tests import tasks
from tests.factories import WorkerFactory
from tests.integration.support import Child, drain, jobs, states
from tests.integration.test_keeper_epoch import keeper_of
from tests.support.epochs import begin_epoch
from tests.support.marks import committed
from tests.support.servers import RedisServer, redis_server

pytestmark = committed

ANOTHER = "0" * 40


def of_another_life(client: redis.Redis) -> None:
    """As after a restart from a snapshot: the data are there, and their epoch names another server process."""
    epoch = epochs.read(client)["main"]
    client.set(keys.epoch("main"), f"{ANOTHER}|{epoch.name}|{epoch.phase}")


@pytest.fixture(params=[of_another_life, redis.Redis.flushall], ids=["of another life", "empty"])
def lost(request: pytest.FixtureRequest) -> Iterator[tuple[Child, list[str]]]:
    """A child that holds one of two jobs, and what it has seen of Redis is gone."""
    ids = jobs(2)
    child = Child()
    child.claim(1)
    request.param(child.client)
    yield child, ids


CALLS: dict[str, Callable[[Child, list[str]], object]] = {
    "claim": lambda child, ids: child.claim(1),
    "push": lambda child, ids: queues.push(child.client, "default", [("x", 0.0, "0:-|x")], time.monotonic()),
    "missing": lambda child, ids: queues.missing(child.client, {"default": ids}),
    "restore": lambda child, ids: queues.restore(child.client, {"default": ([("x", 0.0, "0:-|x")], "1")}),
    "check": lambda child, ids: queues.unknown(child.client, "default", ids),
    "withdraw": lambda child, ids: queues.holders_of(child.client, "default", ids, withdraw=True),
    "offer": lambda child, ids: unknown.offer(child.client, "default", "|no.task", 10),
    "hold": lambda child, ids: queues.hold(child.client, "default", child.holder, 1.7e9, {ids[0]: "0:-|x"}),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_hands_out_or_takes_jobs_is_refused(name: str, lost: tuple[Child, list[str]]) -> None:
    child, ids = lost
    before = child.client.hgetall(keys.body("default"))
    with pytest.raises(DataLost):
        CALLS[name](child, ids)
    assert child.client.hgetall(keys.body("default")) == before
    assert not child.client.exists(keys.cancelled("default"), keys.restored("default"))


def test_what_a_child_holds_can_be_let_go_of_at_any_time(clean_redis: redis.Redis) -> None:
    """It is stale, and about to be dropped: nothing depends on it."""
    first, second, third = jobs(3)
    child = Child()
    child.claim(3)
    of_another_life(child.client)
    assert queues.settle(child.client, "default", child.holder, [first]) == 1
    assert queues.give_back(child.client, "default", child.holder, [second]) == 1
    assert unknown.park(child.client, "default", child.holder, "|no.task", [third]) == 1
    assert not child.held()


def test_enqueueing_goes_on_meanwhile_and_nobody_is_told_of_an_outage(
    lost: tuple[Child, list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    child, ids = lost
    ids += jobs(2)
    assert states(ids) == ["queued"] * 4
    assert rebuild.at_once(child.client) == 4
    assert drain() == ids
    assert "Lost the redis" not in caplog.text


def test_the_phases_of_an_epoch(clean_redis: redis.Redis) -> None:
    (old,) = jobs(1)
    client = connection.client()
    clean_redis.flushall()
    assert epochs.read(client) == {"main": epochs.Epoch(lost=True)}

    begin_epoch(to=epochs.CLOSED)
    closed = epochs.read(client)["main"]
    assert (closed.lost, closed.is_open, closed.phase) == (False, False, epochs.CLOSED)
    (new,) = jobs(1)
    assert client.hkeys(keys.body("default")) == [new], "new jobs are pushed"
    child = Child()
    for name in CALLS.keys() - {"push", "hold"}:
        with pytest.raises(DataLost):
            CALLS[name](child, [new])
    assert not epochs.complete(client, "main", closed), "one phase after the other"
    assert not epochs.begin(client, "main", "another", epochs.life_of_server(client))
    assert not epochs.open_claims(client, "main", closed._replace(name="another"))
    assert not epochs.end(client, "main", closed._replace(name="another"))

    assert epochs.open_claims(client, "main", closed)
    filling = epochs.read(client)["main"]
    assert (filling.is_open, filling.phase, filling.name) == (True, epochs.FILLING, closed.name)
    assert not epochs.open_claims(client, "main", closed)
    assert drain() == [new]
    assert release.restore(client, [(old, "default")]) == 1

    assert epochs.complete(client, "main", filling)
    assert epochs.read(client)["main"].phase == epochs.WHOLE
    assert not epochs.complete(client, "main", filling)
    assert epochs.end(client, "main", filling)
    assert epochs.read(client) == {"main": epochs.Epoch(lost=True)}


def test_what_is_stale_is_dropped_and_what_must_outlive_it_stays(clean_redis: redis.Redis) -> None:
    ids = jobs(5)
    soon = tasks.noop.using(run_after=30).enqueue().id
    child = Child()
    child.claim(3)
    unknown.park(child.client, "default", child.holder, "|no.task", [ids[2]])
    operate.cancel([ids[1], ids[4]])
    operate.pause("default")
    with pytest.raises(redis.ResponseError, match="not stale"):
        epochs.drop(child.client, ["default"])
    tombstones = clean_redis.zrange(keys.cancelled("default"), 0, -1, withscores=True)
    of_another_life(child.client)
    assert rebuild.begin(child.client, "main", epochs.life_of_server(child.client)) == 5
    left = {key.decode() for key in clean_redis.scan_iter(f"{keys.base('default')}*") if b"pushed" not in key}
    assert left == {keys.cancelled("default"), keys.paused("default")}
    assert clean_redis.zrange(keys.cancelled("default"), 0, -1, withscores=True) == tombstones
    operate.resume("default")
    assert rebuild.at_once(child.client) == 4
    assert drain() == [ids[0], ids[2], ids[3]]
    assert clean_redis.zrange(keys.due("default"), 0, -1) == [soon.encode()]


# a cancellation meanwhile


def test_without_a_worker_a_cancellation_holds_at_once(lost: tuple[Child, list[str]]) -> None:
    child, ids = lost
    assert operate.cancel(ids).done == ids
    assert rebuild.at_once(child.client) == 0
    assert drain() == [] and states(ids) == ["cancelled"] * 2


def test_while_a_worker_may_run_it_a_cancellation_is_a_request(lost: tuple[Child, list[str]]) -> None:
    child, ids = lost
    WorkerFactory()
    assert operate.cancel(ids).requested == ids
    assert states(ids) == ["queued"] * 2
    assert Job.objects.exclude(cancel_requested_at=None).count() == 2
    assert rebuild.at_once(child.client) == 0
    assert drain() == []


# a restart from a snapshot


@pytest.fixture
def server(tmp_path: Path, settings: Any) -> Iterator[RedisServer]:
    """A Redis of its own, which reads its snapshot when it starts."""
    with redis_server(None, "--dir", str(tmp_path)) as made:
        settings.QUEUE_APP = settings.QUEUE_APP | {"REDIS_URL": made.url}
        begin_epoch()
        yield made


def test_after_a_restart_from_a_snapshot_nothing_runs_that_has_ended_since(server: RedisServer) -> None:
    done, cancelled, held, waits = jobs(4)
    child = Child()
    server.client().save()
    (first,) = child.claim(1)
    child.end(first)
    assert operate.cancel([cancelled]).done == [cancelled]
    child.claim(1)
    server.kill()
    server.start()
    client = connection.client()
    assert client.hlen(keys.body("default")) == 4, "it is as it was"
    epoch = epochs.read(client)["main"]
    assert epoch.lost and epoch.phase == epochs.WHOLE
    with pytest.raises(DataLost):
        drain()
    assert rebuild.at_once(client) == 2
    assert drain() == [held, waits]
    assert states([done, cancelled]) == ["succeeded", "cancelled"]


# where the server's run_id cannot be used


@pytest.fixture
def counted(clean_redis: redis.Redis) -> Child:
    """A child of a Redis whose epoch counts its writes."""
    clean_redis.flushall()
    begin_epoch(life=epochs.UNNAMED)
    return Child()


def test_writes_are_counted(counted: Child) -> None:
    def writes() -> int:
        epoch = epochs.read(counted.client)["main"]
        assert not epoch.lost and epoch.life == epochs.UNNAMED
        return epoch.writes

    before = writes()
    for step in (
        lambda: jobs(1),
        lambda: counted.claim(1),
        lambda: counted.end(*counted.claim(1)),
        lambda: jobs(2),
    ):
        step()
        before, last = writes(), before
        assert before > last


def test_a_child_that_has_seen_more_writes_than_there_are_refuses(counted: Child) -> None:
    jobs(4)
    counted.claim(1)
    newcomer = Child(2)
    counted.client.set(keys.epoch("main") + ":count", 1)
    with pytest.raises(DataLost):
        counted.claim(1)
    newcomer.claim(1)  # it has seen nothing, and cannot know


def test_a_keeper_that_sees_the_count_fall_says_that_all_is_lost(counted: Child) -> None:
    jobs(4)
    counted.claim(1)
    keeper = keeper_of(counted)
    keeper._look_at_redis()
    assert epochs.all_open(counted.client)
    counted.client.set(keys.epoch("main") + ":count", 1)
    keeper._look_at_redis()
    assert epochs.read(counted.client)["main"].lost
    keeper._look_at_redis()
    assert rebuild.at_once(counted.client) == 4


def test_a_keeper_does_not_take_a_new_count_for_a_loss(counted: Child, clean_redis: redis.Redis) -> None:
    jobs(20)
    keeper = keeper_of(counted)
    keeper._look_at_redis()
    clean_redis.flushall()
    begin_epoch(life=epochs.UNNAMED)
    keeper._look_at_redis()
    assert not epochs.read(counted.client)["main"].lost


def test_a_child_goes_on_with_a_new_count(counted: Child, clean_redis: redis.Redis) -> None:
    """It has seen a higher one, of an epoch that is over."""
    jobs(20)
    for _ in range(10):
        counted.claim(1)
    clean_redis.flushall()
    begin_epoch(life=epochs.UNNAMED)
    (job_id,) = jobs(1)
    assert [delivery.id for delivery in counted.claim(1)] == [job_id]
    counted.client.set(keys.epoch("main") + ":count", 1)
    with pytest.raises(DataLost):
        counted.claim(1)


@pytest.fixture
def without_info(clean_redis: redis.Redis, redis_process: RedisServer, settings: Any) -> Iterator[None]:
    """Redis does not tell us who it is."""
    clean_redis.acl_setuser(
        "blind", enabled=True, passwords=["+secret"], keys=["*"], channels=["*"], commands=["+@all", "-info"]
    )
    settings.QUEUE_APP = settings.QUEUE_APP | {
        "REDIS_URL": redis_process.url.replace("unix://", "unix://blind:secret@")
    }
    yield
    connection.forget()
    clean_redis.acl_deluser("blind")


@pytest.mark.usefixtures("without_info")
def test_where_info_is_denied_writes_are_counted(clean_redis: redis.Redis) -> None:
    clean_redis.flushall()
    ids = jobs(3)
    client = connection.client()
    with pytest.raises(redis.exceptions.NoPermissionError):
        client.info()
    assert epochs.life_of_server(client) == epochs.UNNAMED
    assert rebuild.at_once(client) == 3
    epoch = epochs.read(client)["main"]
    assert (epoch.life, epoch.phase, epoch.lost) == (epochs.UNNAMED, epochs.WHOLE, False)
    child = Child()
    child.end(*child.claim(1))
    assert operate.cancel([ids[1]]).done == [ids[1]]
    assert drain() == [ids[2]]
    client.set(keys.epoch("main") + ":count", 1)
    with pytest.raises(DataLost):
        child.claim(1)


@pytest.mark.usefixtures("without_info")
def test_who_cannot_tell_the_life_of_the_data_believes_that_they_are_there_but_takes_none_away() -> None:
    """An epoch that somebody else, who may ask, has bound to the server's life."""
    client = connection.client()
    epoch = epochs.read(client)["main"]
    assert epoch.life not in ("", epochs.UNNAMED) and not epoch.lost
    first, second = jobs(2)
    assert drain(1) == [first]
    with pytest.raises(DataLost):
        queues.holders_of(client, "default", [second], withdraw=True)
    with pytest.raises(redis.ResponseError, match="not stale"):
        epochs.drop(client, ["default"])


def test_connections_that_lead_to_several_servers_have_no_life(
    clean_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy."""
    asked: list[int] = []
    fresh = epochs.fresh

    def by_turns(client: redis.Redis) -> connection.Knows:
        asked.append(1)
        return connection.Knows(str(len(asked) % 2) * 40, fresh(client).clock)

    client = connection.client()
    assert len(epochs.life_of_server(client)) == 40
    monkeypatch.setattr(epochs, "fresh", by_turns)
    assert epochs.life_of_server(client) == epochs.UNNAMED


# shards


@pytest.fixture
def shards(clean_redis: redis.Redis, settings: Any) -> Iterator[Child]:
    """Queues in two shards: those whose names begin with `mail`, and the others."""
    settings.QUEUE_APP = settings.QUEUE_APP | {"SHARDS": {"mail*": "post"}}
    clean_redis.flushall()
    begin_epoch()
    yield Child()


def test_each_shard_has_its_own_keys_and_its_own_epoch(shards: Child, clean_redis: redis.Redis) -> None:
    (here,) = jobs(1)
    (there,) = jobs(1, task=tasks.noop.using(queue_name="mail.eu"))
    found = epochs.read(shards.client)
    assert set(found) == {"main", "post"} and found["main"].name != found["post"].name
    assert clean_redis.hkeys("{jq:main}:default:body") == [here.encode()]
    assert clean_redis.hkeys("{jq:post}:mail.eu:body") == [there.encode()]
    assert drain(queue="mail.eu") == [there] and drain() == [here]


def test_a_shard_that_has_lost_its_data_is_rebuilt_alone(shards: Child, clean_redis: redis.Redis) -> None:
    here = jobs(3)
    there = jobs(3, task=tasks.noop.using(queue_name="mail"))
    assert [d.id for d in shards.claim(1)] == here[:1]
    before = epochs.read(shards.client)
    clean_redis.delete(*clean_redis.keys("{jq:post}*"))
    with pytest.raises(DataLost):
        drain(queue="mail")
    assert [d.id for d in shards.claim(1)] == [here[1]], "the other one goes on"
    assert not epochs.all_open(shards.client)
    assert rebuild.at_once(shards.client) == 3
    after = epochs.read(shards.client)
    assert after["main"].name == before["main"].name != after["post"].name != before["post"].name
    assert shards.held() == set(here[:2])
    assert drain(queue="mail") == there and drain() == [here[2]]


def test_a_keeper_announces_in_every_shard(shards: Child, clean_redis: redis.Redis) -> None:
    keeper = keeper_of(shards)
    clean_redis.flushall()
    begin_epoch(to=epochs.CLOSED)
    keeper._look_at_redis()
    for shard, epoch in epochs.read(shards.client).items():
        assert epochs.announced(shards.client, shard, epoch.name) == {shards.worker_id}
        assert epochs.announced(shards.client, shard, "another") == set()
