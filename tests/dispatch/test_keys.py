"""Which shard a queue is in, and what its keys are called."""

from __future__ import annotations

from typing import Any

import pytest

from queue_app.dispatch import keys

SHARDS = {"mail.bulk": "bulk", "mail*": "post", "*.eu": "eu", "[xy]?": "pairs"}


@pytest.mark.parametrize(
    ("queue", "shard"),
    [
        ("default", "main"),
        ("mail", "post"),
        ("mail.eu", "post"),  # the first pattern that fits
        ("mail.bulk", "bulk"),
        ("orders.eu", "eu"),
        ("Mail", "main"),  # names are as they are written, on every system
        ("x1", "pairs"),
        ("x12", "main"),
    ],
)
def test_the_first_pattern_that_fits_says_the_shard(queue: str, shard: str, settings: Any) -> None:
    settings.QUEUE_APP = settings.QUEUE_APP | {"SHARDS": SHARDS}
    assert keys.shard_of(queue) == shard
    assert keys.base(queue) == f"{{jq:{shard}}}:{queue}:"
    assert keys.epoch_of(queue) == keys.epoch(shard) == f"{{jq:{shard}}}:epoch"
    for key in (
        keys.body(queue),
        keys.due(queue),
        keys.held(queue, "w.1"),
        keys.ready(queue, -5, "tenant 7"),
    ):
        assert key.startswith(keys.base(queue))


def test_there_is_always_the_main_one(settings: Any) -> None:
    assert keys.shards() == ["main"] and keys.shard_of("anything") == "main"
    settings.QUEUE_APP = settings.QUEUE_APP | {"SHARDS": SHARDS | {"a": "post", "b": "main"}}
    assert keys.shards() == ["bulk", "eu", "main", "pairs", "post"]
    settings.QUEUE_APP = settings.QUEUE_APP | {"SHARDS": {}}
    assert keys.shards() == ["main"]


def test_a_key_of_another_shard_is_of_an_older_layout(settings: Any) -> None:
    settings.QUEUE_APP = settings.QUEUE_APP | {"SHARDS": {"mail": "post"}}
    found = {
        key: keys.is_of_this_layout(key)
        for key in ("{jq:main}:a:body", "{jq:post}:mail:due", "{jq:mail}:body")
    }
    assert list(found.values()) == [True, True, False]
