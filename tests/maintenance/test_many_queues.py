"""Thousands of queues: no duty asks about them one by one, idle ones leave the list, and none is overlooked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from django.db import connection as database

from bench.runtime.servers import RedisServer
from queue_app import clock
from queue_app.dispatch import connection, finding, keys, listing, queue_stats, queues, scripts, workers
from queue_app.domain import ids
from queue_app.domain.states import JobState
from queue_app.lifecycle import push
from queue_app.lifecycle.recovery import rebuild, recover, sweep
from queue_app.lifecycle.recovery.sweep import NewRowSweep
from queue_app.maintenance import idle
from queue_app.maintenance.duty import Duty
from queue_app.maintenance.idle import IdleQueues
from queue_app.maintenance.leader import DUTIES
from queue_app.maintenance.sample_queues import SampleQueues
from queue_app.models import Job, Queue
from queue_app.queries.queues import depths_of
from tests.app import tasks
from tests.support.faults import Stores
from tests.support.jobs import WORKER, Child, drain, term_of
from tests.support.made_duties import make_duty
from tests.support.marks import committed

pytestmark = committed


def waiting(names: list[str], age: float = 3_600) -> list[str]:
    """A job in each of these queues, as old as that, of which Redis has not heard."""
    made = [ids.floor(clock.seconds() - age + n / 1_000) for n in range(len(names))]
    Job.objects.bulk_create(
        Job(id=pk, task="tests.app.tasks.noop", queue=name) for pk, name in zip(made, names, strict=True)
    )
    return [str(pk) for pk in made]


def names_of(count: int, first: str = "q") -> list[str]:
    return [f"{first}{n:04}" for n in range(count)]


# no script works for long: it stops, and is called again for the others


def test_many_queues_with_many_children_are_asked_in_parts(
    clean_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, asked = names_of(300), []
    for name in names:
        clean_redis.sadd(keys.holders(name), *[f"w{n}.1" for n in range(100)])
        clean_redis.hset(keys.body(name), mapping={"a": "0:-|[]", "b": "@w1.1"})
        clean_redis.hset(keys.held(name, "w1.1"), "b", "0|0:-|[]")
    each = scripts.Script.each

    def note(self: scripts.Script, client: redis.Redis, keys: list[str], *rest: Any) -> Any:
        asked.append(len(keys))
        return each(self, client, keys, *rest)

    monkeypatch.setattr(scripts.Script, "each", note)
    counts = listing.counts(connection.client(), names)
    assert {(one.waiting, one.held) for one in counts.values()} == {(1, 1)} and list(counts) == names
    assert asked[0] == 300 and 3 <= len(asked) <= 10 and asked == sorted(asked, reverse=True)
    asked.clear()
    holders = listing.holders(connection.client(), names)
    assert list(holders) == names and {len(found) for found in holders.values()} == {100}
    assert 2 <= len(asked) <= 5


def test_reaping_asks_for_holders_when_there_is_somebody_to_bury(monkeypatch: pytest.MonkeyPatch) -> None:
    child, looks = Child(), []
    holding = recover.liveness.holders_by_worker
    monkeypatch.setattr(
        recover.liveness, "holders_by_worker", lambda *args: looks.append(1) or holding(*args)
    )
    assert recover.reap(child.client, "x", unlisted=False) == 0 and not looks
    assert recover.reap(child.client, "x") == 0 and len(looks) == 1
    monkeypatch.setattr(recover.workers, "now", lambda client: clock.seconds() + 3_600)
    assert recover.reap(child.client, "x", unlisted=False) == 1 and len(looks) == 2


# no duty asks about them one by one


@pytest.fixture
def calls(redis_process: RedisServer, clean_redis: redis.Redis) -> Callable[[Duty, int], Counter[str]]:
    """A function that counts the calls of the stores in a run of a duty, with a job waiting in each of so many queues.
    Some queues have a row, and one child has claimed of each of them."""

    def count(duty: Duty, number: int) -> Counter[str]:
        clean_redis.flushall()
        Job.objects.all().delete()
        Queue.objects.all().delete()
        names = names_of(number)
        waiting(names, 3_600)
        waiting(names, 20)
        Queue.objects.bulk_create(Queue(name=name, keep_succeeded=n) for n, name in enumerate(names[::2]))
        client = connection.client()
        rebuild.at_once(client)
        child = Child()
        for name in names:
            child.claim(1, name)
        term = term_of(connection.client())
        assert not term.needs_rebuild
        with Stores(redis_process).counting() as seen:
            duty.run(term)
        return Counter(seen)

    return count


@pytest.mark.parametrize("kind", [d for d in DUTIES if d.name != "backlog"], ids=lambda kind: kind.name)
def test_more_queues_cost_no_more_calls(kind: type[Duty], calls: Callable[[Duty, int], Counter[str]]) -> None:
    duty = kind()
    calls(duty, 3)  # Redis has heard of all scripts
    few, many = calls(duty, 8), calls(duty, 40)
    if duty.name == "stats" and database.vendor != "postgresql":
        few.pop("sql SELECT"), many.pop("sql SELECT")  # a look-up for each of the 200 busiest queues
    assert few == many


def test_the_walk_through_the_backlog_asks_about_all_queues_of_a_part_at_once(
    calls: Callable[[Duty, int], Counter[str]],
) -> None:
    duty = make_duty("walk", 1, lambda term: sweep.push_missing_backlog(term.client)[0], "walks")
    calls(duty, 3)
    assert calls(duty, 8) == calls(duty, 40)


def test_holders_and_figures_of_many_queues_are_those_of_each() -> None:
    names = names_of(30)
    client = connection.client()
    for n, name in enumerate(names):
        for _ in range(n % 4):
            tasks.noop.using(queue_name=name).enqueue()
    child, other = Child(), Child(2)
    for name in names[::2]:
        child.claim(1, name)
    for name in names[::3]:
        other.claim(1, name)
    found = listing.holders(client, names)
    wanted = {name: [one.holder for one in (child, other) if one.held(name)] for name in names}
    assert found == {name: holders for name, holders in wanted.items() if holders}
    assert set(map(len, found.values())) == {1, 2}
    counted = queue_stats.count(client, names)
    assert counted == {k: v for name in names for k, v in queue_stats.count(client, [name]).items()}
    assert {name: one.held for name, one in counted.items() if one.held} == {
        name: held for name in names if (held := len(child.held(name)) + len(other.held(name)))
    }


def test_unknown_ids_of_many_queues_are_those_of_each() -> None:
    there = {name: tasks.noop.using(queue_name=name).enqueue().id for name in names_of(3)}
    missing = {name: ids.new_text() for name in names_of(4)}
    asked = {name: [there[name], missing[name]] for name in there} | {"q0003": [missing["q0003"]], "none": []}
    client = connection.client()
    assert listing.unknown(client, asked) == {name: [job_id] for name, job_id in missing.items()}
    assert listing.unknown(client, {}) == {}


# none is overlooked


def test_new_rows_of_all_queues_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when there are more queues than one query reads, and a run has time for one query alone."""
    monkeypatch.setattr(sweep, "QUEUES_PER_QUERY", 7)
    found = waiting(names_of(20), 20)
    client, recent = connection.client(), NewRowSweep()
    counts = []
    while True:
        counts.append(recent.run(client, out_of_time=lambda: True))
        if not recent.unfinished:
            break
    assert counts == [7, 7, 6]
    assert [drain(1, name) for name in names_of(20)] == [[job_id] for job_id in found]
    assert queues.known(client) >= set(names_of(20))


def test_a_burst_in_one_queue_does_not_keep_the_others_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    burst = waiting(["a"] * 200, 20)
    rest = waiting(names_of(10), 19)
    client, recent = connection.client(), NewRowSweep()
    assert recent.run(client, limit=60, out_of_time=lambda: True) >= 10
    assert [drain(1, name) for name in names_of(10)] == [[job_id] for job_id in rest]
    assert 0 < depths_of(["a"])["a"]["waiting"] < 60
    assert sum(recent.run(client, limit=60) for _ in range(10)) > 140
    assert sorted(drain(300, "a")) == sorted(burst)


def test_a_reap_finds_what_the_dead_hold_in_queues_that_are_not_listed(clean_redis: redis.Redis) -> None:
    """As long as a worker that is listed serves them."""
    names = names_of(30)
    client = connection.client()
    for name in names:
        tasks.noop.using(queue_name=name).enqueue()
    workers.beat(client, WORKER, names)
    child = Child(listed=False)
    for name in names:
        child.claim(1, name)
    clean_redis.delete(keys.queues())
    client.hset(keys.workers(), WORKER, f"{workers.now(client) - 60!r}|{','.join(names)}")
    assert recover.reap(client, "somebody") == 1
    assert not any(child.held(name) for name in names)


# idle queues are forgotten


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A queue is forgotten as soon as it is seen to be idle."""
    monkeypatch.setattr(idle, "FORGET_AFTER_SECONDS", 0.0)
    yield


def test_what_is_left_of_an_idle_queue_goes(at_once: None, clean_redis: redis.Redis) -> None:
    rebuild.at_once(connection.client())
    child, stats, term = Child(), SampleQueues(), term_of(connection.client())
    stats.run(term)
    for name in ("gone", "busy", "held", "later", "aside"):
        made = tasks.noop.using(queue_name=name)
        (made.using(run_after=30) if name == "later" else made).enqueue()
    child.end(*child.claim(1, "gone"))
    child.claim(1, "held")
    queues.unregister(child.client, "gone", child.holder)
    stats.run(term)
    assert "gone" in queues.known(child.client), "it was busy a moment ago"
    stats.run(term)
    assert queues.known(child.client) - {"default"} == {"busy", "held", "later", "aside"}
    assert not [
        key
        for key in clean_redis.keys("*")
        if b":gone}" in key or (b":gone:" in key and b":pushed:" not in key)
    ]


def test_queues_that_are_served_or_have_a_row_or_are_paused_stay(at_once: None) -> None:
    client = connection.client()
    rebuild.at_once(client)
    Queue.objects.create(name="row")
    queues.pause(client, "paused", True)
    workers.beat(client, WORKER, ["served"])
    queues.remember(client, ["row", "paused", "served", "nothing"])
    one, term = IdleQueues(), term_of(connection.client())
    assert one.forget(term, queues.known(client)) == 1
    assert queues.known(client) - {"default"} == {"row", "paused", "served"}


def test_queues_that_stay_keep_no_other_from_being_forgotten(
    at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle, "MAX_QUEUES_FORGOTTEN", 5)
    client = connection.client()
    Queue.objects.bulk_create(Queue(name=name) for name in names_of(20, "a"))
    queues.remember(client, names_of(20, "a") + names_of(12, "b"))
    one, term = IdleQueues(), term_of(connection.client())
    assert [one.forget(term, queues.known(client)) for _ in range(4)] == [5, 5, 2, 0]
    assert queues.known(client) - {"default"} == set(names_of(20, "a"))


def test_a_queue_is_idle_for_a_while_before_it_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_000.0]
    monkeypatch.setattr(idle.time, "monotonic", lambda: now[0])
    client = connection.client()
    queues.remember(client, ["a", "b"])
    one = IdleQueues()
    term = term_of(connection.client())
    assert one.forget(term, {"a", "b"}) == 0
    now[0] += idle.FORGET_AFTER_SECONDS / 2
    assert one.forget(term, {"a"}) == 0, "b was busy in between"
    now[0] += idle.FORGET_AFTER_SECONDS / 2
    assert one.forget(term, {"a", "b"}) == 1
    assert queues.known(client) - {"default"} == {"b"}


def test_a_cancelled_job_of_it_is_remembered_as_long_as_it_has_to_be(clean_redis: redis.Redis) -> None:
    """A push that is under way must not bring it back. Afterwards its place in the queue goes with the rest."""
    job_id = tasks.noop.using(queue_name="mail").enqueue().id
    client = connection.client()
    finding.withdraw(client, "mail", [job_id])
    assert listing.forget(client, ["mail"]) == 0
    client.zadd(keys.cancelled("mail"), {job_id: workers.now(client) - 601})
    assert listing.forget(client, ["mail"]) == 1
    assert not [key for key in clean_redis.keys("*") if b"mail" in key and b":pushed:" not in key]


def test_a_queue_that_is_pushed_to_again_is_listed_again() -> None:
    """A process notes a queue once. The sweep does so when it sees waiting rows of a queue that it has not noted."""
    client, recent, child = connection.client(), NewRowSweep(), Child()

    def run_one() -> None:
        tasks.noop.using(queue_name="mail").enqueue()
        recent.run(client)
        assert listing.forget(client, ["mail"]) == 0, "a job waits in it"
        child.end(*child.claim(1, "mail"))
        assert listing.forget(client, ["mail"]) == 0, "a child may hold a job of it"
        queues.unregister(client, "mail", child.holder)
        assert listing.forget(client, ["mail"]) == 1 and queues.known(client) - {"default"} == set()

    run_one()
    recent.run(client)
    tasks.noop.using(queue_name="mail").enqueue()
    assert queues.known(client) - {"default"} == set(), "this process has noted it before"
    recent.run(client)
    assert queues.known(client) - {"default"} == {"mail"}


def test_a_push_between_the_look_and_the_removal_is_not_overlooked(
    monkeypatch: pytest.MonkeyPatch, clean_redis: redis.Redis
) -> None:
    from queue_app.dispatch import scripts

    client = connection.client()
    tasks.noop.using(queue_name="mail").enqueue()
    child = Child()
    child.end(*child.claim(1, "mail"))
    queues.unregister(client, "mail", child.holder)
    ask = scripts.ask

    def push_first(*args: Any) -> Any:
        tasks.noop.using(queue_name="mail").enqueue()
        return ask(*args)

    with monkeypatch.context() as patched:
        patched.setattr(scripts, "ask", push_first)
        assert listing.forget(client, ["mail"]) == 0
    assert queues.known(client) - {"default"} == {"mail"}


def test_states_of_jobs_are_not_touched_by_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of other states than `queued` are of no interest to the sweep."""
    with monkeypatch.context() as patched:
        patched.setattr(push, "push_quietly", lambda by_queue, made: set())
        tasks.noop.using(queue_name="b").enqueue()
    Job.objects.update(id=ids.floor(clock.seconds() - 20), state=JobState.RUNNING, started_at=clock.now())
    client = connection.client()
    assert NewRowSweep().run(client) == 0 and sweep.push_missing_backlog(client) == (0, None)
