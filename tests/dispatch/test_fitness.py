"""What `check --deploy`, and workers at their start, say of a Redis that is not set up well."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import redis
from django.core import checks
from django.test import override_settings

from bench.runtime.servers import RedisServer
from queue_app.dispatch import connection, fitness, keys
from queue_app.management.starting import check_stores


def numbers() -> list[int]:
    return [complaint.number for complaint in fitness.complaints(connection.client())]


@pytest.fixture
def evicting(clean_redis: redis.Redis) -> Iterator[redis.Redis]:
    """A Redis that would evict keys."""
    clean_redis.config_set("maxmemory", "1gb")
    clean_redis.config_set("maxmemory-policy", "allkeys-lru")
    yield clean_redis
    clean_redis.config_set("maxmemory-policy", "noeviction")
    clean_redis.config_set("maxmemory", "0")


def test_a_redis_with_its_defaults_is_well(clean_redis: redis.Redis) -> None:
    assert numbers() == []


def test_an_evicting_policy_is_complained_of_if_there_is_a_limit(evicting: redis.Redis) -> None:
    assert numbers() == [4]
    evicting.config_set("maxmemory", "0")
    assert numbers() == []


@pytest.mark.django_db
def test_workers_say_so_at_their_start(evicting: redis.Redis, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check_stores()
    assert "maxmemory-policy allkeys-lru" in caplog.text


def test_the_system_check_asks_the_server_with_deploy_alone(evicting: redis.Redis) -> None:
    def found(deploy: bool) -> list[str]:
        return [str(m.id) for m in checks.run_checks(tags=["queue_app"], include_deployment_checks=deploy)]

    assert "queue_app.W004" in found(True)
    assert "queue_app.W004" not in found(False)


def test_an_epoch_without_a_life_is_complained_of(clean_redis: redis.Redis) -> None:
    clean_redis.set(keys.epoch("main"), "-|x|whole")
    assert numbers() == [7]


def test_a_server_that_hides_its_run_id_is_complained_of(
    clean_redis: redis.Redis, redis_process: RedisServer
) -> None:
    clean_redis.execute_command("ACL", "SETUSER", "plain", "on", ">word", "~*", "&*", "+@all", "-info")
    url = redis_process.url.replace("unix://", "unix://plain:word@")
    try:
        with override_settings(QUEUE_APP={"REDIS_URL": url}):
            assert numbers() == [3]
    finally:
        clean_redis.execute_command("ACL", "DELUSER", "plain")
