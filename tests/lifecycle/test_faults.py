"""P1–P4 at every call of a store on the way from enqueue to settle: it fails before it is done, its answer is lost, it
hangs, or the process dies just before or after it. Everything comes right by itself, and no attempt runs twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from django.db import transaction

from bench.runtime.servers import RedisServer
from tests.app.counted_tasks import effect
from tests.support.lives import World
from tests.support.marks import committed
from tests.support.visits import all_modes, everywhere, modes, world_of

pytestmark = committed


@pytest.fixture
def world(redis_process: RedisServer, clean_redis: redis.Redis) -> Iterator[World]:
    with world_of(World, redis_process, clean_redis) as made:
        yield made


def life(world: World) -> None:
    def together() -> None:
        with transaction.atomic():
            found = [effect.enqueue().id, *(r.id for r in effect.enqueue_many([((), {})] * 2))]
        world.committed += found

    def apart() -> None:
        # Too large for Redis: the claim reads it from the record. Its first attempt fails.
        world.committed.append(effect.using(queue_name="mail").enqueue("x" * 10_000, failures=1).id)

    world.do(together)
    world.do(apart)
    world.serve()


@all_modes
def test_from_enqueue_to_settle(world: World, mode: str) -> None:
    calls = everywhere(world, mode, life)
    assert {"redis push", "redis claim", "redis settle", "sql SELECT", "sql COMMIT"} <= set(calls)


def stop(world: World) -> None:
    """A child gives back what it has claimed and not started, and then works at it all the same."""
    world.have(3)
    world.stop()
    world.serve()


@modes
def test_giving_back(world: World, mode: str) -> None:
    assert "redis give_back" in everywhere(world, mode, stop)


def burial(world: World) -> None:
    """A child has died in the midst of its work: one job ran, one was recorded and not acknowledged, one waited."""
    world.have()
    world.have(failures=1)
    world.have(2)
    dead = world.die()
    world.again(lambda: world.bury(dead))


@modes
def test_taking_back(world: World, mode: str) -> None:
    calls = everywhere(world, mode, burial)
    assert {"redis HGETALL", "redis give_back", "redis settle", "redis SREM"} <= set(calls)


def reaping(world: World) -> None:
    """The same, where nobody knows what ran: its whole machine is gone."""
    world.have(3)
    world.lose_machine()
    world.again(world.reap)


@modes
def test_reaping(world: World, mode: str) -> None:
    assert {"redis HGETALL", "redis settle", "redis HDEL"} <= set(everywhere(world, mode, reaping))


def lost_data(world: World) -> None:
    """Redis loses its data while jobs wait, some of them for their time."""
    world.have(3)
    world.have(run_after=0.05)
    with world.stores.asleep():
        world.client.flushall()
    world.again(world.duties)


@modes
def test_rebuilding(world: World, mode: str) -> None:
    assert {"redis drop", "redis epoch", "redis find", "redis restore"} <= set(
        everywhere(world, mode, lost_data)
    )


def never_pushed(world: World) -> None:
    """Rows whose push never came: the sweep and the promotion find them."""
    world.have(3, pushed=False)
    world.have(pushed=False, run_after=0.05)
    world.again(world.duties)


@modes
def test_sweeping_and_promoting(world: World, mode: str) -> None:
    assert {"redis find", "redis restore", "sql SELECT"} <= set(everywhere(world, mode, never_pushed))
