"""Data of another life of the server are not believed: nothing is claimed, pushed, restored or withdrawn."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import redis
from django.test import override_settings

from bench.runtime.servers import RedisServer
from queue_app.dispatch import connection, epochs, finding, keys, listing, queues
from queue_app.dispatch.connection import DataLost
from queue_app.lifecycle import operate, tokens
from queue_app.lifecycle.recovery import rebuild
from queue_app.maintenance.rebuild_redis import RebuildRedis
from queue_app.models import Worker
from tests.app import tasks
from tests.support.epochs import begin_epoch
from tests.support.factories import WorkerFactory
from tests.support.jobs import Child, drain, jobs, states, term_of
from tests.support.marks import committed
from tests.worker.keeper.test_data_loss import keeper_of

pytestmark = committed


@pytest.fixture
def client(clean_redis: redis.Redis) -> redis.Redis:
    return connection.client()


def pretend_another_life(client: redis.Redis) -> None:
    """The data are as a restart from a snapshot leaves them: whole, and of the server process before."""
    name = epochs.read(client)["main"].name
    client.set(keys.epoch("main"), f"{'0' * 40}|{name}|whole")


def test_data_of_another_life_are_used_for_nothing(client: redis.Redis) -> None:
    (waiting,) = jobs(1)
    child = Child()
    pretend_another_life(client)
    (unheard,) = jobs(1)
    for call in (
        lambda: child.claim(1),
        lambda: listing.unknown(client, {"default": [waiting]}),
        lambda: finding.missing(client, {"default": [waiting]}),
        lambda: finding.withdraw(client, "default", [waiting]),
        lambda: queues.hold(client, "default", child.holder, 1.0, {waiting: "0:-|x"}),
    ):
        with pytest.raises(DataLost):
            call()
    assert client.hkeys(keys.body("default")) == [waiting], "nothing was changed"
    assert rebuild.at_once(client) == 2
    assert drain() == [waiting, unheard]


def test_a_job_cancelled_meanwhile_is_only_marked_while_a_worker_lives(client: redis.Redis) -> None:
    first, second = jobs(2)
    pretend_another_life(client)
    WorkerFactory()
    assert operate.cancel([first]).requested == [first]
    Worker.objects.all().delete()
    assert operate.cancel([second]).done == [second]
    rebuild.at_once(client)
    assert drain() == []
    assert states([second]) == ["cancelled"]


def test_the_phases_come_in_order_and_claims_wait_for_the_second(client: redis.Redis) -> None:
    client.flushall()
    child = Child()
    begin_epoch(client, to=epochs.CLOSED)
    (job_id,) = jobs(1)
    epoch = epochs.read(client)["main"]
    with pytest.raises(DataLost):
        child.claim(1)
    assert not epochs.complete(client, "main", epoch)
    assert epochs.open_claims(client, "main", epoch) and not epochs.open_claims(client, "main", epoch)
    assert [d.id for d in child.claim(1)] == [job_id]
    assert epochs.complete(client, "main", epoch)
    assert epochs.drop(client, ["default"]) is None, "they are not stale"


def test_an_epoch_begins_once(client: redis.Redis) -> None:
    client.flushall()
    life = epochs.life_of_server(client)
    assert epochs.begin(client, "main", "one", life)
    assert not epochs.begin(client, "main", "two", life)
    assert epochs.read(client)["main"].name == "one"


# where the server's life has no name


@pytest.fixture
def counted(clean_redis: redis.Redis) -> Child:
    """A child of a Redis whose epoch counts its writes."""
    clean_redis.flushall()
    begin_epoch(life=epochs.UNNAMED)
    return Child()


def count_becomes(client: redis.Redis, number: int) -> None:
    client.set(keys.epoch("main") + ":count", number)


def test_writes_are_counted(counted: Child) -> None:
    def writes() -> int:
        epoch = epochs.read(counted.client)["main"]
        assert not epoch.lost and epoch.life == epochs.UNNAMED
        return epoch.writes

    before = writes()
    for step in (
        lambda: jobs(1),
        lambda: counted.claim(1),
        lambda: jobs(1),
        lambda: counted.end(*counted.claim(1)),
    ):
        step()
        before, last = writes(), before
        assert before > last


def test_a_counter_of_writes_that_falls_is_a_loss(counted: Child) -> None:
    """The first who has proof of it says so: all is rebuilt, and claims go on."""
    ids = jobs(3)
    newcomer = Child(2)
    counted.claim(1)
    counted.claim(1)
    count_becomes(counted.client, 1)
    assert [d.id for d in newcomer.claim(1)] == [ids[2]], "it has seen nothing, and cannot know"
    with pytest.raises(DataLost):
        counted.claim(1)
    assert epochs.read(counted.client)["main"].lost
    assert rebuild.at_once(counted.client) == 3
    assert [d.id for d in counted.claim(5)] == ids


def test_a_child_goes_on_at_once_with_the_count_of_a_new_epoch(
    counted: Child, clean_redis: redis.Redis
) -> None:
    """It has seen a higher one, of an epoch that is over."""
    jobs(20)
    for _ in range(10):
        counted.claim(1)
    clean_redis.flushall()
    begin_epoch(life=epochs.UNNAMED)
    (job_id,) = jobs(1)
    assert [d.id for d in counted.claim(1)] == [job_id]
    count_becomes(counted.client, 1)
    with pytest.raises(DataLost):
        counted.claim(1)


def test_a_keeper_that_sees_the_count_fall_says_that_all_is_lost(counted: Child) -> None:
    jobs(4)
    counted.claim(1)
    keeper = keeper_of(counted)
    keeper._announcer.check()
    assert epochs.all_open(counted.client)
    count_becomes(counted.client, 1)
    keeper._announcer.check()
    assert epochs.read(counted.client)["main"].lost
    keeper._announcer.check()
    assert rebuild.at_once(counted.client) == 4


def test_a_keeper_does_not_take_the_count_of_a_new_epoch_for_a_loss(
    counted: Child, clean_redis: redis.Redis
) -> None:
    jobs(20)
    keeper = keeper_of(counted)
    keeper._announcer.check()
    clean_redis.flushall()
    begin_epoch(life=epochs.UNNAMED)
    keeper._announcer.check()
    keeper._announcer.check()
    assert epochs.all_open(counted.client)


def test_an_epoch_that_comes_back_after_another_has_gone_back_in_time(
    counted: Child, clean_redis: redis.Redis
) -> None:
    """A snapshot of it was loaded, of a moment when it had more writes than the one after it."""
    jobs(20)
    snapshot = {key: clean_redis.dump(key) for key in clean_redis.scan_iter("{jq:main}:epoch*")}
    keeper = keeper_of(counted)
    keeper._announcer.check()
    clean_redis.flushall()
    begin_epoch(life=epochs.UNNAMED)
    keeper._announcer.check()
    for key, dump in snapshot.items():
        clean_redis.restore(key, 0, dump, replace=True)
    keeper._announcer.check()
    assert epochs.read(counted.client)["main"].lost


@pytest.fixture
def without_info(clean_redis: redis.Redis, redis_process: RedisServer) -> Iterator[redis.Redis]:
    """The client of a user who may not ask for INFO."""
    clean_redis.execute_command("ACL", "SETUSER", "plain", "on", ">word", "~*", "&*", "+@all", "-info")
    with override_settings(
        QUEUE_APP={"REDIS_URL": redis_process.url.replace("unix://", "unix://plain:word@")}
    ):
        yield connection.client()
    clean_redis.execute_command("ACL", "DELUSER", "plain")


def test_a_server_that_hides_its_life_is_served_without_endless_rebuilds(
    without_info: redis.Redis, clean_redis: redis.Redis
) -> None:
    clean_redis.flushall()
    one, term = RebuildRedis(), term_of(without_info)
    for _ in range(5):
        one.run(term)
    epoch = epochs.read(without_info)["main"]
    assert (epoch.life, epoch.phase) == (epochs.UNNAMED, epochs.WHOLE)
    ids = jobs(2)
    assert drain() == ids
    one.run(term)
    term.check()
    assert term.epochs["main"].name == epoch.name


def test_connections_that_lead_to_several_servers_end_in_an_epoch_without_a_life(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, term = RebuildRedis(), term_of(client)
    term.check()
    true = epochs.life_of_server(client)
    one._ended[true] = time.monotonic()  # as if an epoch of this life had ended before
    client.delete(keys.epoch("main"))
    term.check()
    for _ in range(4):
        one.run(term)
    assert epochs.read(client)["main"].life == epochs.UNNAMED
    assert true != epochs.UNNAMED


# shards


def test_each_shard_has_its_own_epoch(clean_redis: redis.Redis) -> None:
    with override_settings(
        QUEUE_APP={"REDIS_URL": connection.conf.get().REDIS_URL, "SHARDS": {"mail*": "post"}}
    ):
        client = connection.client()
        assert rebuild.at_once(client) == 0  # begins the epoch of the second shard
        mail = tasks.noop.using(queue_name="mail.bulk").enqueue().id
        (plain,) = jobs(1)
        assert client.exists("{jq:post}:mail.bulk:body", "{jq:main}:default:body") == 2
        client.delete(keys.epoch("post"))
        child = Child()
        with pytest.raises(DataLost):
            child.claim(1, "mail.bulk")
        assert [d.id for d in child.claim(1)] == [plain], "the other shard goes on"
        assert rebuild.at_once(client) == 1
        assert [d.id for d in child.claim(1, "mail.bulk")] == [mail]


# what an older release left, and leaderships


def test_keys_of_an_older_layout_are_removed_and_those_of_others_stay(client: redis.Redis) -> None:
    client.mset({"{jq:mail}:body": "", "{jq:default}:ready:0:-": "", "{other:mail}:body": "", "mine": ""})
    one, term = RebuildRedis(), term_of(client)
    one.run(term)
    assert client.exists("{jq:mail}:body", "{jq:default}:ready:0:-") == 0
    assert client.delete("{other:mail}:body", "mine") == 2
    assert client.get(keys.layout()) == "2"


def test_tokens_never_fall(client: redis.Redis) -> None:
    first = term_of(client).token
    client.flushall()
    begin_epoch(client)
    second = term_of(client).token
    assert second > first
    assert tokens.next_token() > second
