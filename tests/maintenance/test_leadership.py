"""The tokens of leaderships come from the record: they never fall, and none is taken twice."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from django.db import DatabaseError, connections

from queue_app.dispatch import connection, keys, workers
from queue_app.exceptions import LeadershipLost
from queue_app.lifecycle import tokens
from queue_app.maintenance.duty import LeaderTerm
from queue_app.maintenance.leader import Leader
from queue_app.models import Leadership
from tests.support.jobs import term_of
from tests.support.made_duties import make_duty
from tests.support.marks import committed

pytestmark = committed


def test_tokens_never_fall_though_redis_loses_all(clean_redis: redis.Redis) -> None:
    client, last = connection.client(), 0
    for name in ("a", "b", "a"):
        for _ in range(2):
            token = term_of(client, name).token
            assert token > last
            last = token
        clean_redis.flushall()


def test_a_leader_of_before_the_loss_is_over(clean_redis: redis.Redis) -> None:
    """Its counter would have begun again, and its token been given to another one."""
    client = connection.client()
    old = term_of(client, "a")
    clean_redis.flushall()
    new = term_of(client, "b")
    with pytest.raises(LeadershipLost):
        old.check()
    assert workers.leader(client) == ("b", new.token)
    clean_redis.flushall()
    with pytest.raises(LeadershipLost):
        old.check()
    assert workers.leader(client) is None


def test_a_try_spends_its_token(clean_redis: redis.Redis) -> None:
    client = connection.client()
    first = term_of(client, "a").token
    assert not workers.lead(client, "b", 60, tokens.next_token())
    clean_redis.delete(keys.leader())
    assert term_of(client, "b").token > first + 1


def test_many_at_once_take_different_ones() -> None:
    barrier = threading.Barrier(6)

    def take(_: int) -> list[int]:
        barrier.wait(10)
        try:
            return [tokens.next_token() for _ in range(10)]
        finally:
            connections.close_all()

    with ThreadPoolExecutor(6) as pool:
        taken = list(pool.map(take, range(6)))
    assert all(part == sorted(part) for part in taken)
    assert sorted(token for part in taken for token in part) == list(range(1, 61))
    assert Leadership.objects.get().token == 60


def test_leaders_of_another_kind_have_their_own() -> None:
    assert [tokens.next_token(), tokens.next_token(), tokens.next_token("other"), tokens.next_token()] == [
        1,
        2,
        1,
        3,
    ]


def test_without_the_record_nobody_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that was not taken there protects nothing."""

    def away(name: str = "") -> int:
        raise DatabaseError("the server is away")

    one = Leader("a", threading.Event(), duties=(make_duty("one", 60, lambda term: 1, "does something"),))
    with monkeypatch.context() as patch:
        patch.setattr(tokens, "next_token", away)
        with pytest.raises(DatabaseError):
            one.step()
    client = connection.client()
    assert workers.leader(client) is None
    one.step()
    assert workers.leader(client) == ("a", 1)


def test_who_sees_that_another_one_leads_takes_no_token() -> None:
    client = connection.client()
    token = term_of(client, "a").token
    ran: list[int] = []

    def run(term: LeaderTerm) -> int:
        ran.append(term.token)
        return 1

    other = Leader("b", threading.Event(), duties=(make_duty("one", 0, run, "does something"),))
    for _ in range(3):
        other.step()
    assert Leadership.objects.get().token == token and not ran
    workers.resign(client, "a", token)
    other.step()
    other.step()
    assert ran == [token + 1, token + 1], "one token for a leadership, however long"
