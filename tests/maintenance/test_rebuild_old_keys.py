"""A rebuild removes the keys that an older release has left."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from queue_app.dispatch import connection, epochs, keys
from queue_app.exceptions import LeadershipLost
from queue_app.maintenance import rebuild_redis as module
from queue_app.maintenance.duty import LeaderTerm
from queue_app.maintenance.rebuild_redis import RebuildRedis
from tests.support.jobs import calls, drain, jobs, term_of
from tests.support.marks import committed
from tests.support.rebuilding import phase

pytestmark = committed


def test_keys_of_an_older_layout_are_removed_once(duty: RebuildRedis, clean_redis: redis.Redis) -> None:
    (job_id,) = jobs(1)
    old = [f"{{jq:q{n}}}:ready:0:-" for n in range(2_500)]
    old += ["{jq:mail}:body", "{jq:mail}:levels", "{jq:mail}:held:w.1", "{jq:a.b-c_1}:due"]
    foreign = ["session:1", "{shop:mail}:body", "{jqx:mail}:body", "jq:mail:body", "{jq}:other", "celery"]
    for name in old:
        clean_redis.rpush(name, "x")
    clean_redis.mset(dict.fromkeys(foreign, "x"))
    kept = {key.decode() for key in clean_redis.scan_iter()} - set(old)
    client = connection.client()
    for _ in range(100):
        term = term_of(client)
        assert duty.run(term) == 0
        if not term.unfinished:
            break
    assert {key.decode() for key in clean_redis.scan_iter()} == kept | {keys.layout(), keys.leader()}
    assert clean_redis.get(keys.layout()) == module.LAYOUT_VERSION.encode()
    assert drain() == [job_id]
    clean_redis.config_resetstat()
    duty.run(term_of(client))
    RebuildRedis().run(term_of(client))
    assert calls(clean_redis, "scan") == 0
    clean_redis.delete(*foreign)


def test_what_older_releases_kept_for_all_queues_is_removed_too(
    duty: RebuildRedis, clean_redis: redis.Redis
) -> None:
    clean_redis.mset({"{jq}:epoch": "x", "{jq}:fence": "7"})
    duty.run(term_of(connection.client()))
    assert not clean_redis.exists("{jq}:epoch", "{jq}:fence")


def test_a_queue_with_the_name_of_a_shard_leaves_nothing(
    duty: RebuildRedis, clean_redis: redis.Redis
) -> None:
    clean_redis.hset("{jq:main}:body", "id", "x")
    clean_redis.rpush("{jq:main}:ready:0:-", "id")
    duty.run(term_of(connection.client()))
    assert not clean_redis.exists("{jq:main}:body", "{jq:main}:ready:0:-")
    assert phase() == epochs.WHOLE


def test_it_stops_in_the_middle_when_it_is_deposed(
    duty: RebuildRedis, clean_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(2_500):
        clean_redis.set(f"{{jq:q{n}}}:body", "x")
    client = connection.client()
    term: LeaderTerm = term_of(client, "a")
    drop = epochs.drop_old_keys

    def and_depose(*args: Any) -> tuple[int, int]:
        answer = drop(*args)
        clean_redis.delete(keys.leader())
        term_of(client, "b")
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(epochs, "drop_old_keys", and_depose)
        with pytest.raises(LeadershipLost):
            duty.run(term)
    assert len(clean_redis.keys("{jq:q*")) > 1_000 and not clean_redis.exists(keys.layout())
    clean_redis.delete(*clean_redis.keys("{jq:q*"))
