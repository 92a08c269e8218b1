"""The duty that rebuilds what Redis is to have: in steps, so that claims begin soon and other duties go on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from itertools import count, cycle
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from django.db import connection as database

from queue_app import clock
from queue_app.dispatch import connection, epochs, keys, queues
from queue_app.dispatch.connection import DataLost
from queue_app.domain import ids
from queue_app.exceptions import LeadershipLost
from queue_app.lifecycle import release
from queue_app.lifecycle.recovery import rebuild
from queue_app.lifecycle.redis_breaker import breaker
from queue_app.maintenance import rebuild_redis as module
from queue_app.maintenance.leader import Leader
from queue_app.maintenance.rebuild_redis import RebuildRedis
from queue_app.models import Job
from tests.app import tasks
from tests.support.epochs import begin_epoch
from tests.support.factories import WorkerFactory
from tests.support.jobs import Child, drain, jobs, term_of
from tests.support.made_duties import make_duty
from tests.support.marks import committed
from tests.support.rebuilding import phase

pytestmark = committed


@pytest.fixture
def by_tens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run puts back ten jobs: after these its time is up. The newest do not come first."""
    monkeypatch.setattr(rebuild, "MAX_NEW_PER_QUEUE", 0)
    monkeypatch.setattr(release, "JOBS_PER_PUSH", 10)
    times = count()
    monkeypatch.setattr(
        rebuild, "time", SimpleNamespace(monotonic=lambda: next(times) * 0.6 * module.MAX_RUN_SECONDS)
    )


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """A function that says whether silent workers are waited for as long as it takes, or no longer."""

    def wait(long: bool) -> None:
        monkeypatch.setattr(rebuild, "announcement_timeout", lambda: float("inf") if long else 0.0)

    wait(True)
    return wait


def finish(duty: RebuildRedis) -> int:
    """Go on until all is whole. Returns how many jobs were put back."""
    put_back = 0
    for _ in range(100):
        put_back += duty.run(term_of(connection.client()))
        if phase() == epochs.WHOLE:
            return put_back
    raise AssertionError(f"{put_back} were put back, and it does not end")


# step by step


def test_claims_begin_before_all_is_put_back(
    duty: RebuildRedis, by_tens: None, clean_redis: redis.Redis
) -> None:
    low = jobs(25)
    high = jobs(5, task=tasks.noop.using(priority=9))
    soon = tasks.noop.using(run_after=30).enqueue().id
    clean_redis.flushall()
    term = term_of(connection.client())
    assert term.needs_rebuild and not term.is_complete
    steps = []
    for _ in range(20):
        term.unfinished = False
        put_back = duty.run(term)
        steps.append((phase(), put_back))
        if phase() == epochs.WHOLE:
            break
        assert term.unfinished
    assert steps[:3] == [(epochs.CLOSED, 0), (epochs.FILLING, 0), (epochs.FILLING, 10)]
    assert [put_back for _, put_back in steps[2:]] == [10, 10, 10, 1]
    assert term.is_complete and not term.needs_rebuild
    assert drain() == high + low
    assert clean_redis.zrange(keys.due("default"), 0, -1) == [soon.encode()]
    term.unfinished = False
    assert duty.run(term) == 0 and not term.unfinished


def test_what_was_enqueued_during_the_loss_comes_first(
    duty: RebuildRedis, by_tens: None, monkeypatch: pytest.MonkeyPatch, clean_redis: redis.Redis
) -> None:
    """Its push was refused; it does not wait until a long backlog is back."""
    monkeypatch.setattr(rebuild, "MAX_NEW_PER_QUEUE", 200)
    hour_ago = clock.seconds() - 3_600
    Job.objects.bulk_create(Job(id=ids.floor(hour_ago + n), task="tests.app.tasks.noop") for n in range(25))
    clean_redis.flushall()
    new = jobs(2, task=tasks.noop.using(priority=-9))
    while not (put_back := duty.run(term_of(connection.client()))):
        assert phase() != epochs.WHOLE
    assert put_back < 25 and phase() == epochs.FILLING
    assert [clean_redis.hexists(keys.body("default"), job_id) for job_id in new] == [True, True]
    assert finish(duty) + put_back == 27
    assert drain()[-2:] == new


def test_new_work_flows_while_it_goes_on(duty: RebuildRedis, by_tens: None, clean_redis: redis.Redis) -> None:
    """Pushed, claimed and ended between two steps; and none is delivered twice."""
    jobs(35)
    clean_redis.flushall()
    child, done = Child(), []
    while phase() != epochs.WHOLE:
        duty.run(term_of(child.client))
        if phase() not in ("lost", epochs.CLOSED):
            jobs(1)
            deliveries = child.claim(7)
            done += [delivery.id for delivery in deliveries]
            assert child.end(*deliveries) == {delivery.id for delivery in deliveries}
    done += drain()
    assert len(done) == len(set(done)) == Job.objects.count()


def test_it_goes_on_over_connections_that_last_for_one_run(
    duty: RebuildRedis, by_tens: None, monkeypatch: pytest.MonkeyPatch, clean_redis: redis.Redis
) -> None:
    """Django's default: the leader lets go of its connection before each run of a duty."""
    monkeypatch.setitem(database.settings_dict, "CONN_MAX_AGE", 0)
    monkeypatch.setitem(database.__dict__, "close_at", 0.0)
    ids = jobs(60)
    clean_redis.flushall()
    leader = Leader("a", threading.Event(), duties=(make_duty("rebuild", 0.0, duty.run, "rebuilds"),))
    for _ in range(12):
        leader.step()
    assert phase() == epochs.WHOLE
    assert leader._histories["rebuild"].errors == 0, leader._histories["rebuild"].error
    assert drain() == ids


def test_others_write_to_the_database_between_two_steps(
    duty: RebuildRedis, by_tens: None, clean_redis: redis.Redis
) -> None:
    """And so does the leader itself, for its other duties."""
    ids = jobs(40)
    clean_redis.flushall()
    term = term_of(connection.client())
    while phase() != epochs.WHOLE:
        duty.run(term)
        thread = threading.Thread(target=_write_and_leave)
        thread.start()
        thread.join(20)
        Job.objects.filter(pk=ids[-1]).update(timeout=5)
    assert sorted(drain(1_000)) == sorted(map(str, Job.objects.values_list("pk", flat=True)))


def _write_and_leave() -> None:
    jobs(1)
    database.close()


# what runs is announced first


def test_living_workers_are_waited_for(
    duty: RebuildRedis, patient: Callable[[bool], None], clean_redis: redis.Redis
) -> None:
    first, second = WorkerFactory(), WorkerFactory()
    WorkerFactory(status="stopped")
    WorkerFactory(status="silent")
    jobs(2)
    clean_redis.flushall()
    term = term_of(connection.client())
    for _ in range(3):
        assert duty.run(term) == 0
        assert term.unfinished and term.needs_rebuild
    name = epochs.read(term.client)["main"].name
    assert rebuild.unannounced_workers(term.client, "main", name) == {str(first.pk), str(second.pk)}
    epochs.announce(term.client, "main", name, str(first.pk))
    epochs.announce(term.client, "main", "another", str(second.pk))
    duty.run(term)
    assert phase() == epochs.CLOSED
    with pytest.raises(DataLost):
        drain()
    epochs.announce(term.client, "main", name, str(second.pk))
    duty.run(term)
    assert phase() == epochs.FILLING
    assert duty.run(term) == 2 and term.is_complete


def test_but_not_for_ever(
    duty: RebuildRedis,
    patient: Callable[[bool], None],
    clean_redis: redis.Redis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    WorkerFactory()
    jobs(2)
    clean_redis.flushall()
    term = term_of(connection.client())
    duty.run(term)
    duty.run(term)
    assert phase() == epochs.CLOSED
    patient(False)
    duty.run(term)
    assert phase() == epochs.FILLING
    assert "1 workers did not announce in time what they run." in caplog.text
    assert finish(duty) == 2


def test_the_wait_is_never_longer_than_three_seconds_or_the_lease(settings: Any) -> None:
    assert rebuild.announcement_timeout() == 3.0
    settings.QUEUE_APP = settings.QUEUE_APP | {"LEASE": 1.5}
    assert rebuild.announcement_timeout() == 1.5


def test_a_new_leader_waits_anew(
    duty: RebuildRedis, patient: Callable[[bool], None], clean_redis: redis.Redis
) -> None:
    """It does not know since when the epoch is closed, but finds what was announced."""
    worker = WorkerFactory()
    clean_redis.flushall()
    duty.run(term_of(connection.client()))
    name = epochs.read(connection.client())["main"].name
    epochs.announce(connection.client(), "main", name, str(worker.pk))
    other = RebuildRedis()
    other.run(term_of(connection.client(), "a"))
    assert phase() == epochs.FILLING and epochs.read(connection.client())["main"].name == name


def test_a_second_loss_begins_all_anew(
    duty: RebuildRedis,
    patient: Callable[[bool], None],
    monkeypatch: pytest.MonkeyPatch,
    clean_redis: redis.Redis,
) -> None:
    """While what waits is put back. What runs must be announced once more before anything is claimed."""
    monkeypatch.setattr(release, "JOBS_PER_PUSH", 10)
    worker = WorkerFactory()
    ids = jobs(35)
    clean_redis.flushall()
    client = connection.client()
    duty.run(term_of(client))
    name = epochs.read(client)["main"].name
    epochs.announce(client, "main", name, str(worker.pk))
    duty.run(term_of(client))
    assert phase() == epochs.FILLING
    restore = queues.restore

    def and_flush(*args: Any) -> int:
        put_back = restore(*args)
        clean_redis.flushall()
        return put_back

    with monkeypatch.context() as patch:
        patch.setattr(queues, "restore", and_flush)
        with pytest.raises((LeadershipLost, DataLost)):
            duty.run(term_of(client))
    for _ in range(3):
        assert duty.run(term_of(client)) == 0
        assert phase() == epochs.CLOSED
    with pytest.raises(DataLost):
        drain()
    epochs.announce(client, "main", name, str(worker.pk))
    duty.run(term_of(client))
    assert phase() == epochs.CLOSED, "that was for the one before"
    patient(False)
    assert finish(duty) == 35
    assert drain() == ids


@pytest.mark.parametrize("to", ["lost", epochs.CLOSED, epochs.FILLING])
def test_who_was_deposed_changes_nothing(to: str, duty: RebuildRedis, clean_redis: redis.Redis) -> None:
    """It was frozen, and believes that it leads."""
    jobs(3)
    clean_redis.flushall()
    if to != "lost":
        begin_epoch(to=to)
    client = connection.client()
    term = term_of(client, "a")
    assert term.epochs
    clean_redis.delete(keys.leader())
    term_of(client, "b")

    def seen() -> list[Any]:
        return [phase(), clean_redis.dbsize(), clean_redis.hlen(keys.body("default"))]

    before = seen()
    with pytest.raises(LeadershipLost):
        duty.run(term)
    assert seen() == before


def test_it_says_what_it_has_dropped(
    duty: RebuildRedis, clean_redis: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    jobs(3)
    clean_redis.set(keys.epoch("main"), f"{'0' * 40}|old|whole")
    assert finish(duty) == 3
    assert caplog.text.count("went back in time; 3 stale jobs were dropped.") == 1
    assert caplog.text.count("waiting jobs were put back") == 1


def test_nothing_is_said_where_there_was_nothing(
    duty: RebuildRedis, clean_redis: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """The first start of all."""
    clean_redis.flushall()
    assert finish(duty) == 0
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_server_that_seems_to_come_back_to_life_is_several(
    duty: RebuildRedis, monkeypatch: pytest.MonkeyPatch, clean_redis: redis.Redis
) -> None:
    """No process has the life of an earlier one. Connections lead to two servers by turns, and data must not be dropped
    again and again for that."""
    lives = cycle(["1" * 40, "2" * 40])
    monkeypatch.setattr(epochs, "life_of_server", lambda client: next(lives))
    clean_redis.flushall()
    for _ in range(2):
        duty.run(term_of(connection.client()))
        assert phase() == "lost", "that is neither of them"
    duty.run(term_of(connection.client()))
    assert epochs.read(connection.client())["main"].life == epochs.UNNAMED
    assert finish(duty) == 0


# a full Redis


def test_a_full_redis_gets_what_it_has_room_for(
    duty: RebuildRedis,
    clean_redis: redis.Redis,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The rest is put back by the sweep, as room is made."""
    monkeypatch.setattr(release, "JOBS_PER_PUSH", 10)
    ids = jobs(50)
    clean_redis.flushall()
    begin_epoch(to=epochs.FILLING)
    restore = queues.restore

    def and_fill_up(*args: Any) -> int:
        put_back = restore(*args)
        clean_redis.config_set("maxmemory", "1")
        return put_back

    try:
        with monkeypatch.context() as patch:
            patch.setattr(queues, "restore", and_fill_up)
            duty.run(term_of(connection.client()))
            assert phase() == epochs.WHOLE
            assert "Redis is full" in caplog.text
            assert drain() == ids[:10], "what is there can be claimed"
    finally:
        clean_redis.config_set("maxmemory", "0")
    found = release.restore(connection.client(), [(job_id, "default") for job_id in ids])
    assert found == 40


def test_enqueueing_into_a_full_redis_costs_nothing(
    clean_redis: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    clean_redis.config_set("maxmemory", "1")
    try:
        with pytest.raises(connection.Full):
            queues.push(connection.client(), "default", [("x", 0.0, "0:-|x")])
        jobs(1)
    finally:
        clean_redis.config_set("maxmemory", "0")
    assert not breaker.is_open and "Lost the redis" not in caplog.text
