"""Two living servers: a failover and back is not a proxy that leads to both by turns."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import redis

from queue_app.dispatch import connection, epochs, keys
from queue_app.maintenance import rebuild_redis as module
from queue_app.maintenance.rebuild_redis import RebuildRedis
from tests.support.epochs import begin_epoch
from tests.support.jobs import drain, jobs, term_of
from tests.support.marks import committed

pytestmark = committed


class Clock:
    now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the duty."""
    clock = Clock()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


def life() -> str:
    return epochs.read(connection.client())["main"].life


def own_life() -> str:
    return epochs.life_of_server(connection.client())


@pytest.mark.parametrize(("seconds", "named"), [(61, True), (59, False)])
def test_a_server_that_is_the_master_again_is_told_from_one_of_several(
    clock: Clock, seconds: float, named: bool, monkeypatch: pytest.MonkeyPatch, clean_redis: redis.Redis
) -> None:
    duty, client, mine = RebuildRedis(), connection.client(), own_life()
    clean_redis.set(keys.epoch("main"), f"{mine}|a|whole")
    other = "2" * 40
    with monkeypatch.context() as patched:
        patched.setattr(epochs, "life_of_server", lambda client: other)
        duty._begin(term_of(client), {"main": epochs.Epoch(True, mine, "a", "whole")})
    clock.now += seconds
    clean_redis.set(keys.epoch("main"), f"{other}|b|whole")
    clean_redis.delete(keys.leader())
    duty.run(term_of(client))
    assert life() == (mine if named else epochs.UNNAMED)


@pytest.fixture
def unnamed(clean_redis: redis.Redis) -> redis.Redis:
    clean_redis.flushall()
    begin_epoch(life=epochs.UNNAMED)
    return clean_redis


def looks(duty: RebuildRedis, clock: Clock, seconds: float) -> None:
    term = term_of(connection.client(), seconds=600)
    until = clock.now + seconds
    while clock.now < until:
        clock.now += 1.0
        term.check()
        duty.run(term)
    connection.client().delete(keys.leader())


def test_an_epoch_without_a_life_gets_it_when_one_server_is_seen_for_a_minute(
    unnamed: redis.Redis, clock: Clock
) -> None:
    before, ids, duty = epochs.read(connection.client())["main"], jobs(2), RebuildRedis()
    looks(duty, clock, module.STABLE_SECONDS - 5)
    assert life() == epochs.UNNAMED
    looks(duty, clock, 15)
    now = epochs.read(connection.client())["main"]
    assert (now.life, now.name, now.phase) == (own_life(), before.name, epochs.WHOLE), (
        "nothing is interrupted"
    )
    assert not unnamed.exists(keys.epoch("main") + ":count")
    assert drain() == ids


def test_it_does_not_while_connections_lead_to_several(
    unnamed: redis.Redis, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    lives: Any = iter(n for n in range(10_000))
    mine = own_life()
    monkeypatch.setattr(
        epochs, "life_of_server", lambda client: epochs.UNNAMED if next(lives) % 6 == 0 else mine
    )
    looks(RebuildRedis(), clock, 4 * module.STABLE_SECONDS)
    assert life() == epochs.UNNAMED


def test_the_life_of_another_server_is_not_taken(unnamed: redis.Redis) -> None:
    client = connection.client()
    assert not epochs.bind(client, "main", epochs.read(client)["main"], "2" * 40)
    assert life() == epochs.UNNAMED
