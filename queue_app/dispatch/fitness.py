"""Whether a Redis server is set up so that the promises hold: for the system check, and for workers at start."""

from __future__ import annotations

from typing import NamedTuple

import redis
from redis.exceptions import ResponseError

from queue_app.dispatch import epochs


class Complaint(NamedTuple):
    """What is wrong, and what to do about it; the number is part of the system check's id."""

    number: int
    text: str
    hint: str


def complaints(client: redis.Redis) -> list[Complaint]:
    """What is wrong with this server.

    Raises:
        Unavailable (see dispatch.connection): it cannot be asked.
    """
    found = []
    if epochs.life_of_server(client) == epochs.UNNAMED:
        found.append(
            Complaint(
                3,
                "Redis does not tell its run_id, or connections lead to several servers. A loss of its last second of"
                " writes, after a failover or a restart, may go unnoticed: jobs could run twice then.",
                "Allow the command INFO, and connect to one server rather than to a proxy.",
            )
        )
    elif any(epoch.life == epochs.UNNAMED for epoch in epochs.read(client).values()):
        found.append(
            Complaint(
                7,
                "Connections to Redis led to several servers lately. A loss of its last second of writes, after a"
                " failover or a restart, may go unnoticed until the leader has seen one server alone for a minute.",
                "If this stays, connect to one server rather than to a proxy.",
            )
        )
    policy = _eviction_policy(client)
    if policy not in (None, "noeviction"):
        found.append(
            Complaint(
                4,
                f"Redis evicts keys when its memory is full (maxmemory-policy {policy}). Queues are keys: they are"
                " rebuilt when that happens, and claims stand still for seconds each time.",
                "Set maxmemory-policy to noeviction, and use another Redis for caches.",
            )
        )
    return found


def _eviction_policy(client: redis.Redis) -> str | None:
    """The policy, if a limit is set that can make it work. INFO is asked, as managed services close CONFIG."""
    try:
        memory = client.info("memory")
    except ResponseError:
        return None
    return str(memory.get("maxmemory_policy")) if memory.get("maxmemory") else None
