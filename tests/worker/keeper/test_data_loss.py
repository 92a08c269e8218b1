"""A keeper hears of a loss of Redis's data also when it was held up while that was made good."""

from __future__ import annotations

import os

import pytest
import redis

from queue_app import clock
from queue_app.dispatch import connection, epochs, workers
from queue_app.domain import ids
from queue_app.lifecycle.recovery import rebuild
from queue_app.worker.config import QueueChoice, WorkerConfig
from queue_app.worker.keeper.keeper import Keeper
from queue_app.worker.pipes import Channel
from queue_app.worker.shared_state import SharedState
from tests.support.jobs import OTHER_WORKER, Child, jobs
from tests.support.marks import committed

pytestmark = committed


@pytest.fixture
def child() -> Child:
    return Child(7, ids.new_text())


def keeper_of(child: Child, shared: SharedState | None = None) -> Keeper:
    """The keeper of a worker with one child."""
    config = WorkerConfig(worker_id=child.worker_id, queues=QueueChoice(("default",), None))
    made = Keeper(
        config,
        shared or SharedState(1, 1),
        Channel(os.open(os.devnull, os.O_RDONLY)),
        Channel(os.open(os.devnull, os.O_WRONLY)),
    )
    serial = int(child.holder.rpartition(".")[2])
    made._pids[serial], made._indexes[serial] = os.getpid(), 0
    return made


@pytest.fixture
def keeper(child: Child) -> Keeper:
    """That of a child which runs one job; it has looked at Redis."""
    made = keeper_of(child)
    made._announcer.check()
    assert made._shared.recheck_counter[0] == 0, "nothing was lost"
    return made


def run_one(keeper: Keeper, child: Child) -> str:
    (job_id,) = jobs(1)
    (delivery,) = child.claim(1)
    keeper._shared.start(0, 0, job_id, delivery.number, clock.seconds(), 0.0)
    return job_id


def test_a_loss_is_announced_until_it_is_made_good(
    keeper: Keeper, child: Child, clean_redis: redis.Redis
) -> None:
    job_id = run_one(keeper, child)
    clean_redis.flushall()
    keeper._announcer.check()
    assert keeper._shared.is_data_loss_flagged(keeper._shared.recheck_counter[0], 0)
    assert not child.held(), "what is stale was not dropped yet"
    rebuild.begin(child.client, "main", epochs.life_of_server(child.client))
    keeper._announcer.check()
    assert child.held() == {job_id}
    name = epochs.read(child.client)["main"].name
    assert epochs.announced(child.client, "main", name) == {child.worker_id}
    rebuild.at_once(child.client)
    assert child.held() == {job_id} and Child(1, OTHER_WORKER).claim(1) == []


def test_the_first_announcement_is_looked_at_by_the_child(child: Child) -> None:
    """What it ended or set aside after its keeper had read the board is held in its name by then."""
    keeper = keeper_of(child)
    run_one(keeper, child)
    keeper._announcer.check()
    assert keeper._shared.is_data_loss_flagged(keeper._shared.recheck_counter[0], 0)


def test_a_loss_that_was_made_good_in_a_moment_is_noticed(
    keeper: Keeper, child: Child, clean_redis: redis.Redis
) -> None:
    job_id = run_one(keeper, child)
    clean_redis.flushall()
    rebuild.at_once(child.client)
    assert not child.held()
    keeper._announcer.check()
    assert child.held() == {job_id}, "it runs: nobody else may begin it"
    assert Child(1, OTHER_WORKER).claim(1) == []
    told = keeper._shared.recheck_counter[0]
    keeper._announcer.check()
    assert keeper._shared.recheck_counter[0] == told, "said once"


def test_the_keeper_that_replaces_one_that_died_meanwhile_announces_what_runs(
    keeper: Keeper, child: Child, clean_redis: redis.Redis
) -> None:
    """It was not there when Redis lost its data, and neither when that was made good."""
    job_id = run_one(keeper, child)
    successor = keeper_of(child, keeper._shared)
    successor._announcer.check()
    assert keeper._shared.recheck_counter[0] == 0, "nothing was lost"
    clean_redis.flushall()
    rebuild.at_once(child.client)
    assert not child.held()
    keeper_of(child, keeper._shared)._announcer.check()
    assert child.held() == {job_id}
    assert keeper._shared.is_data_loss_flagged(keeper._shared.recheck_counter[0], 0)
    name = epochs.read(child.client)["main"].name
    assert keeper._shared.has_seen_epochs(name)


def test_what_somebody_else_has_begun_meanwhile_stays_theirs(
    keeper: Keeper, child: Child, clean_redis: redis.Redis
) -> None:
    job_id = run_one(keeper, child)
    clean_redis.flushall()
    rebuild.at_once(child.client)
    other = Child(1, OTHER_WORKER)
    other.claim(1)
    keeper._announcer.check()
    assert other.held() == {job_id} and not child.held(), "an id is in one place"


def test_the_name_of_a_life_of_the_data_is_never_used_twice() -> None:
    client = connection.client()
    seen = set()
    for _ in range(3):
        client.flushall()
        rebuild.at_once(client)
        seen.add(epochs.read(client)["main"].name)
    assert len(seen) == 3 and workers.listed(client) == []
