"""An epoch for a Redis that a test has emptied: without one, claims are refused (queue_app/dispatch/epochs.py)."""

from __future__ import annotations

import redis

from queue_app.dispatch import connection, epochs, keys
from queue_app.domain import ids


def begin_epoch(
    client: redis.Redis | None = None, *, life: str | None = None, to: str = epochs.WHOLE
) -> None:
    """Let the empty Redis count as whole, as it is after the rebuild of an empty record.

    Args:
        client: None for that of the settings.
        life: what the epochs are bound to; None for the server's run_id.
        to: the phase in which they are afterwards.
    """
    client = client or connection.client()
    life = life or epochs.life_of_server(client)
    for shard in keys.shards():
        assert epochs.begin(client, shard, ids.new_text(), life), "the data of this shard are not lost"
        if to != epochs.CLOSED:
            assert epochs.open_claims(client, shard, epochs.read(client)[shard])
        if to == epochs.WHOLE:
            assert epochs.complete(client, shard, epochs.read(client)[shard])
