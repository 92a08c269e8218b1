"""What plain jobs cost, from their enqueue to the acknowledgement of their success, in statements and commands.

The numbers are those of this commit. More of them may be right; then they change here, and the commit says why.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import django
import pytest
import redis
from django.db import connection
from django.test.utils import CaptureQueriesContext

from queue_app.domain.outcome import succeeded
from queue_app.lifecycle import claim as claiming
from queue_app.lifecycle import queue_defaults, settle
from tests.app import dtasks, tasks
from tests.support.jobs import WORKER, Child
from tests.support.marks import committed

pytestmark = committed


class Cost(NamedTuple):
    """What one step cost.

    Attributes:
        sql: statements, with BEGIN and COMMIT.
        calls: scripts of Redis, each a round trip.
        commands: all commands of Redis, with those inside the scripts.
    """

    sql: int
    calls: int
    commands: int


#: SQLite in larger statements, and without a transaction around a single one, is what Django 6 brings.
DATABASE = (
    "sqlite, Django 5" if connection.vendor == "sqlite" and django.VERSION < (6, 0) else connection.vendor
)

#: Database and number of jobs → enqueue, claim, record, acknowledge. The same for both kinds of task.
COSTS = {
    ("postgresql", 1): [Cost(1, 1, 12), Cost(0, 1, 20), Cost(4, 0, 0), Cost(0, 1, 9)],
    ("postgresql", 500): [Cost(1, 1, 19), Cost(0, 1, 20), Cost(4, 0, 0), Cost(0, 1, 9)],
    ("sqlite", 1): [Cost(1, 1, 12), Cost(0, 1, 20), Cost(5, 0, 0), Cost(0, 1, 9)],
    ("sqlite", 500): [Cost(5, 1, 19), Cost(0, 1, 20), Cost(11, 0, 0), Cost(0, 1, 9)],
    ("sqlite, Django 5", 1): [Cost(3, 1, 12), Cost(0, 1, 20), Cost(5, 0, 0), Cost(0, 1, 9)],
    ("sqlite, Django 5", 500): [Cost(15, 1, 19), Cost(0, 1, 20), Cost(23, 0, 0), Cost(0, 1, 9)],
}


@contextmanager
def measured(client: redis.Redis, costs: list[Cost]) -> Iterator[None]:
    client.config_resetstat()
    with CaptureQueriesContext(connection) as queries:
        yield
    stats = {name: found["calls"] for name, found in client.info("commandstats").items()}
    own = ("cmdstat_config", "cmdstat_info")  # of this measure itself
    commands = sum(calls for name, calls in stats.items() if not name.startswith(own))
    costs.append(Cost(len(queries), stats.get("cmdstat_evalsha", 0), commands))


def whole_life(client: redis.Redis, child: Child, task: Any, count: int) -> list[Cost]:
    """Enqueue, claim, record and acknowledge so many jobs; what each step cost."""
    costs: list[Cost] = []
    with measured(client, costs):
        task.enqueue_many([((n,), {}) for n in range(count)])
    with measured(client, costs):
        claimed = claiming.claim(child.client, ["default"], child.holder, count)
        assert claiming.complete(claimed.deliveries) == []
    assert len(claimed.deliveries) == count
    outcomes = [succeeded(delivery, 1.7e9, None) for delivery in claimed.deliveries]
    with measured(client, costs):
        accepted = settle.record(outcomes, WORKER)
    with measured(client, costs):
        settle.acknowledge(child.client, child.holder, outcomes, accepted)
        settle.announce(outcomes, accepted, WORKER)
    assert len(accepted) == count
    return costs


@pytest.mark.parametrize("count", [1, 500])
@pytest.mark.parametrize("task", [tasks.noop, dtasks.noop], ids=["ours", "of the Tasks API"])
def test_what_a_plain_job_costs(
    clean_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch, task: Any, count: int
) -> None:
    monkeypatch.setattr(
        queue_defaults, "MAX_AGE_SECONDS", 3_600.0
    )  # else it is read again if this machine is slow
    child = Child()
    whole_life(clean_redis, child, task, 1)  # connections, names and scripts are there now
    found = whole_life(clean_redis, child, task, count)
    assert found == COSTS[DATABASE, count], (
        f"Plain jobs cost more or less than they did: say why in the commit when you change the table. {found}"
    )
