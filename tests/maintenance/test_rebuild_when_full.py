"""A Redis that is at its maxmemory when its data are lost: claims begin again all the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from queue_app.dispatch import connection, epochs, keys, queues, workers
from queue_app.lifecycle.recovery import rebuild
from queue_app.maintenance.rebuild_redis import RebuildRedis
from tests.support.epochs import begin_epoch
from tests.support.factories import WorkerFactory
from tests.support.jobs import drain, jobs, term_of
from tests.support.marks import committed

pytestmark = committed


@pytest.fixture
def full(clean_redis: redis.Redis) -> Iterator[redis.Redis]:
    """A Redis with stale data and no room, not even for a name."""
    jobs(3)
    clean_redis.set(keys.epoch("main"), f"{'0' * 40}|old|whole")
    clean_redis.delete(keys.queues())
    clean_redis.config_set("maxmemory", "1")
    yield clean_redis
    clean_redis.config_set("maxmemory", "0")


def test_a_full_redis_is_rebuilt(full: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild, "announcement_timeout", lambda: float("inf"))
    worker = WorkerFactory()
    client, duty = connection.client(), RebuildRedis()
    duty.run(term_of(client))
    epoch = epochs.read(client)["main"]
    assert (epoch.lost, epoch.phase) == (False, epochs.CLOSED)
    assert full.hlen(keys.body("default")) == 0 and queues.known(client) == {"default"}
    epochs.announce(client, "main", epoch.name, str(worker.pk))
    duty.run(term_of(client))
    assert epochs.read(client)["main"].phase == epochs.FILLING
    assert drain() == []


def test_stale_data_are_dropped_before_anything_is_added(
    full: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What frees memory must not wait for what needs some."""
    order: list[str] = []
    drop, note = epochs.drop, queues.remember
    monkeypatch.setattr(epochs, "drop", lambda *a: (order.append("drop"), drop(*a))[1])
    monkeypatch.setattr(queues, "remember", lambda *a: (order.append("note"), note(*a))[1])
    rebuild.begin(connection.client(), "main", "x")
    assert order == ["drop", "note"]


# who has announced what


def test_an_announcement_is_noted_until_its_worker_leaves(clean_redis: redis.Redis) -> None:
    """Or each start of a worker would leave an entry for as long as the epoch lasts."""
    clean_redis.flushall()
    begin_epoch(to=epochs.CLOSED)
    client = connection.client()
    epoch = epochs.read(client)["main"]
    epochs.announce(client, "main", epoch.name, "a")
    epochs.announce(client, "main", "another", "b")
    assert epochs.announced(client, "main", epoch.name) == {"a"}
    epochs.open_claims(client, "main", epoch)
    epochs.announce(client, "main", epoch.name, "late")
    assert epochs.announced(client, "main", epoch.name) == {"a", "late"}
    for worker_id in ("a", "late"):
        workers.remove(client, worker_id)
    assert not clean_redis.exists(keys.announced("main"))
