"""A fault at every call of a store that a life makes: what the tests of faults share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import pytest
import redis
from django.conf import settings

from bench.runtime.servers import RedisServer
from tests.support.faults import AFTER, BEFORE, DIES_AFTER, DIES_BEFORE, HANG, Stores
from tests.support.lives import World, impatient

W = TypeVar("W", bound=World)

#: Where nothing runs between two calls, dying before one is dying after the one before it.
all_modes = pytest.mark.parametrize("mode", [BEFORE, AFTER, HANG, DIES_BEFORE, DIES_AFTER])
modes = pytest.mark.parametrize("mode", [BEFORE, AFTER, HANG, DIES_AFTER])


@contextmanager
def world_of(kind: type[W], server: RedisServer, client: redis.Redis) -> Iterator[W]:
    """An empty world, whose stores can fail."""
    with impatient():
        made = kind(Stores(server), client)
        made.clear()
        yield made


def everywhere(world: W, mode: str, life: Callable[[W], None]) -> list[str]:
    """Live this life once for each of its calls, which fails, and look at what came of it.

    Returns:
        The names of the calls that failed.
    """
    fresh = type(world)
    with world.stores.counting() as seen:
        life(world)
    calls = list(seen)
    world.check()
    for at in range(len(calls)):
        if mode == HANG and calls[at].startswith("sql"):
            continue  # for a database it ends as a failure does
        if settings.DATABASES["default"]["ENGINE"].endswith("postgresql") and calls[at].startswith("redis"):
            continue  # the SQLite leg visits these
        world.clear()
        world = fresh(world.stores, world.client)
        try:
            with world.stores.failing(at, mode):
                life(world)
            # How often a child looks for a retry that is not due yet differs, so the last ones may not be met.
            assert world.stores.hit is not None or at > len(calls) * 0.8, "the fault was not met"
            world.check()
        except BaseException as error:
            error.add_note(f"Call {at} of {len(calls)}, {calls[at]}, {mode}. Calls: {world.stores.seen}")
            raise
    return calls
