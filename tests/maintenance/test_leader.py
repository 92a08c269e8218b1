"""The leader's duties: one leader at a time, fenced; what is known of each run; a leader that was deposed stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from bench.runtime.waiting import wait_until
from queue_app.dispatch import connection, epochs, keys, queues, workers
from queue_app.exceptions import LeadershipLost
from queue_app.lifecycle import push, release, tokens
from queue_app.lifecycle.recovery import rebuild
from queue_app.maintenance import history, leader_term
from queue_app.maintenance.duty import Duty, LeaderTerm
from queue_app.maintenance.leader import DUE_CHECK_SECONDS, DUTIES, Leader
from queue_app.maintenance.leader_term import term_seconds
from queue_app.maintenance.rebuild_redis import RebuildRedis
from queue_app.models import Job
from tests.support.epochs import begin_epoch
from tests.support.jobs import Child, calls, drain, jobs, term_of
from tests.support.leading import depose, leader
from tests.support.made_duties import make_duty
from tests.support.marks import committed

pytestmark = committed


# one leader at a time


def test_one_leads_until_it_resigns_and_every_leadership_has_a_token_of_its_own() -> None:
    client = connection.client()
    assert workers.leader(client) is None
    first = term_of(client, "a").token
    tried = tokens.next_token()
    assert tried > first > 0 and not workers.lead(client, "b", 60, tried)
    assert workers.renew(client, "a", 60, first)[0]
    assert not workers.renew(client, "b", 60, first)[0] and not workers.renew(client, "b", 60, tried)[0]
    assert workers.leader(client) == ("a", first)
    workers.resign(client, "b", first)
    workers.resign(client, "a", tried)
    assert workers.leader(client) == ("a", first)
    workers.resign(client, "a", first)
    assert workers.leader(client) is None
    assert term_of(client, "b").token > tried


def test_a_leadership_that_lapsed_is_over_even_if_nobody_took_it() -> None:
    client = connection.client()
    token = term_of(client, "a", 0.001).token
    wait_until(lambda: not client.exists(keys.leader()), 60, "the end of a leadership of a millisecond")
    assert not workers.renew(client, "a", 60, token)[0]
    assert workers.leader(client) is None
    assert term_of(client, "a").token > token


def test_a_leadership_prolonged_lasts_longer() -> None:
    client = connection.client()
    token = term_of(client, "a", 5).token
    assert workers.renew(client, "a", 500, token)[0]
    assert client.pttl(keys.leader()) > 400_000


def test_a_successor_under_the_same_name_deposes_its_predecessor() -> None:
    """A keeper that died is replaced within the same worker; should it still be there, it must stop."""
    client = connection.client()
    old = term_of(client, "a").token
    new = term_of(client, "a").token
    assert new > old
    assert not workers.renew(client, "a", 60, old)[0]
    assert workers.leader(client) == ("a", new)


# deposed


def test_a_deposed_leader_stops_in_the_middle(
    monkeypatch: pytest.MonkeyPatch, clean_redis: redis.Redis
) -> None:
    """It was frozen after a batch of its rebuild; meanwhile another process leads."""
    monkeypatch.setattr(release, "JOBS_PER_PUSH", 10)
    monkeypatch.setattr(push, "push_quietly", lambda by_queue, made: set())
    ids = jobs(35)
    clean_redis.flushall()
    begin_epoch(to=epochs.FILLING)
    client = connection.client()
    term = term_of(client, "a")
    restore, others = queues.restore, []

    def and_freeze(*args: Any) -> int:
        count = restore(*args)
        others.append(depose())
        return count

    monkeypatch.setattr(queues, "restore", and_freeze)
    with pytest.raises(LeadershipLost):
        RebuildRedis().run(term)
    assert drain() == ids[:10]
    assert len(others) == 1 and others[0] > term.token
    assert epochs.read(client)["main"].phase == epochs.FILLING, "the rebuild is not said to be done"


@pytest.mark.parametrize("kind", DUTIES, ids=lambda kind: kind.name)
def test_no_duty_writes_under_a_lapsed_mandate(
    kind: type[Duty], monkeypatch: pytest.MonkeyPatch, clean_redis: redis.Redis
) -> None:
    from tests.support.duties import WORK

    duty = kind()
    look: Callable[[], object] = WORK[duty.name](duty, monkeypatch)
    client = connection.client()
    term = term_of(client, "a")
    before = look()
    depose()
    with pytest.raises(LeadershipLost):
        duty.run(term)
    assert look() == before, "it did nothing"
    client.delete(keys.leader())
    assert duty.run(term_of(client, "a")) > 0
    assert look() != before, "there was something to do"


def test_a_deposed_leader_writes_nothing_about_its_duties() -> None:
    def run(term: LeaderTerm) -> int:
        others.append(depose())
        term.check()
        return 1

    others: list[int] = []
    one = leader("a", make_duty("one", 60, run, "is deposed"))
    one.step()
    client = connection.client()
    assert workers.leader(client) == ("b", others[0])
    assert history.read(client) == {}
    one.step()
    assert workers.leader(client) == ("b", others[0]), "and it does not take the leadership back"


def test_who_is_told_to_stop_stops_in_the_middle_and_resigns() -> None:
    stop, ran = threading.Event(), []

    def run(term: LeaderTerm) -> int:
        ran.append(term.token)
        stop.set()
        term.check()
        raise AssertionError("not reached")

    said: list[int] = []
    Leader("a", stop, said.append, (make_duty("one", 60, run, "is told to stop"),)).run()
    client = connection.client()
    assert ran == [1] and said == [1, 0]
    assert workers.leader(client) is None
    assert history.read(client) == {}


def test_a_long_duty_keeps_the_leadership_by_its_checks(settings: Any) -> None:
    settings.QUEUE_APP = settings.QUEUE_APP | {"LEASE": 1.0}
    client = connection.client()

    def run(term: LeaderTerm) -> int:
        for _ in range(3):
            client.pexpire(keys.leader(), 50)  # its time is nearly up
            term.check()
            assert client.pttl(keys.leader()) > 100
        return 3

    leader("a", make_duty("long", 60, run, "takes long")).step()
    assert history.read(client)["long"].count == 3


def test_a_duty_that_only_looks_keeps_the_leadership_too(settings: Any) -> None:
    """It writes nothing, for twice as long as one renewal lasts, and none of its looks takes long."""
    settings.QUEUE_APP = settings.QUEUE_APP | {"LEASE": 1.0}
    client = connection.client()

    def run(term: LeaderTerm) -> int:
        looks, began = 0, time.monotonic()
        while time.monotonic() - began < 1.4:
            term.keep_alive()
            looks += len(queues.known(client)) + 1
        return looks

    queues.remember(client, ["default"])
    one = leader("a", make_duty("looks", 60, run, "only looks"))
    one.step()
    assert workers.leader(client) == ("a", 1)
    assert history.read(client)["looks"].count > 100
    one.step()
    assert workers.leader(client) == ("a", 1)


def test_to_keep_it_costs_a_round_trip_only_now_and_then(
    settings: Any, clean_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, now = connection.client(), [1_000.0]
    monkeypatch.setattr(leader_term.time, "monotonic", lambda: now[0])
    term = term_of(client, "a")
    term.renewed = now[0]
    clean_redis.config_resetstat()
    for _ in range(10):
        term.keep_alive()
    assert calls(clean_redis, "evalsha") == 0
    now[0] += term_seconds() / 3
    for _ in range(10):
        term.keep_alive()
    assert calls(clean_redis, "evalsha") == 1
    depose()
    term.keep_alive()
    now[0] += term_seconds() / 3
    with pytest.raises(LeadershipLost):
        term.keep_alive()
    term.stop.set()
    with pytest.raises(LeadershipLost):
        term.keep_alive()


def test_what_is_urgent_is_looked_at_between_all_others() -> None:
    ran: list[str] = []

    def noting(name: str) -> Callable[[LeaderTerm], int]:
        return lambda term: len(ran.append(name) or ran)  # type: ignore[func-returns-value]

    duties = (make_duty("one", 60, noting("one"), ""), make_duty("two", 60, noting("two"), ""))
    leader("a", *duties, make_duty("reap", 0.0, noting("reap"), "", urgent=True)).step()
    assert ran == ["reap", "one", "reap", "two", "reap", "reap"]
    assert [duty.name for duty in DUTIES if duty.urgent] == ["rebuild", "reap"]


def test_every_run_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_000.0]
    monkeypatch.setattr(leader_term.time, "monotonic", lambda: now[0])
    seen: list[tuple[bool, bool]] = []

    def run(term: LeaderTerm) -> int:
        before = term.out_of_time()
        now[0] += leader_term.MAX_RUN_SECONDS
        seen.append((before, term.out_of_time()))
        return 0

    leader("a", make_duty("one", 60, run, ""), make_duty("two", 60, run, "")).step()
    assert seen == [(False, True), (False, True)]


def test_the_rest_is_done_without_a_pause() -> None:
    """What one run has no time for must not wait for the leader's next look."""
    done, stop = threading.Event(), threading.Event()

    def run(term: LeaderTerm) -> int:
        ran.append(time.monotonic())
        term.unfinished = len(ran) < 8
        if not term.unfinished:
            done.set()
        return 1

    ran: list[float] = []
    one = Leader("a", stop, duties=(make_duty("much", 3_600, run, "has much to do"),))
    thread = threading.Thread(target=one.run, daemon=True)
    thread.start()
    assert done.wait(30)
    stop.set()
    thread.join(10)
    assert ran[-1] - ran[0] < 7 * DUE_CHECK_SECONDS, "seven looks of a leader that has nothing else to do"


def test_an_idle_round_costs_few_round_trips(clean_redis: redis.Redis) -> None:
    """With nothing to do, and only the quickest duty due: one, which says all; now and then one more to note it."""
    rebuild.at_once(connection.client())
    Child()
    one = leader("a")
    one.step()
    clean_redis.config_resetstat()
    one._due["rebuild"] = 0.0
    one.step()
    calls = sum(
        stats["calls"] for name, stats in clean_redis.info("commandstats").items() if "config" not in name
    )
    assert calls == 4, "the script that prolongs the leadership, and the three commands in it"
    assert Job.objects.count() == 0


def test_a_loss_of_the_data_takes_the_leadership_along(
    monkeypatch: pytest.MonkeyPatch, clean_redis: redis.Redis
) -> None:
    """Redis is emptied after a batch of the sweep: the rest is left to the rebuild, after those who run announce it."""
    monkeypatch.setattr(release, "JOBS_PER_PUSH", 10)
    client = connection.client()
    rebuild.at_once(client)
    monkeypatch.setattr(push, "push_quietly", lambda by_queue, made: set())
    ids = jobs(35)
    term = term_of(client, "a")
    assert not term.needs_rebuild
    restore = queues.restore

    def and_flush(*args: Any) -> int:
        count = restore(*args)
        clean_redis.flushall()
        return count

    monkeypatch.setattr(queues, "restore", and_flush)
    with pytest.raises(connection.DataLost):
        release.restore(client, [(i, "default") for i in ids], term.check)
    with pytest.raises(LeadershipLost):
        term.check()
    with pytest.raises(connection.DataLost):
        drain()
    assert term_of(client, "a").needs_rebuild
