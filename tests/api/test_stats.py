"""/stats/: depth, waiting time and throughput."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from django.test import Client

from bench.runtime.servers import RedisServer
from queue_app.dispatch import connection, queue_stats
from queue_app.dispatch.queue_stats import QueueStats, Sample

pytestmark = pytest.mark.django_db(transaction=True)


def test_nothing_was_sampled_yet(api: Any, clean_redis: redis.Redis) -> None:
    assert api.get("/api/v1/stats/").json() == {"at": None, "seconds": 0.0, "queues": []}


def test_figures_rates_and_samples(api: Any, clean_redis: redis.Redis) -> None:
    for n in range(4):
        one = QueueStats(waiting=5 - n, held=2, set_aside=1, oldest=3.5, ended={"succeeded": 100}, run_ms=500)
        queue_stats.save(connection.client(), Sample(1_000_000_000.0 + 10 * n, 10.0, {"default": one}))
    data = api.get("/api/v1/stats/?seconds=20&samples=true").json()
    assert (data["at"], data["seconds"], len(data["samples"])) == ("2001-09-09T01:47:10Z", 20.0, 2)
    assert data["queues"] == [
        {
            "name": "default",
            "waiting": 2,
            "due_later": 0,
            "held": 2,
            "set_aside": 1,
            "oldest_waiting_seconds": 3.5,
            "ended": {"succeeded": 200},
            "per_second": {"succeeded": 10.0},
            "mean_run_seconds": 0.005,
        }
    ]
    assert data["samples"][0]["queues"]["default"]["waiting"] == 3
    assert "samples" not in api.get("/api/v1/stats/?seconds=20").json()
    assert api.get("/api/v1/stats/?samples=yes").status_code == 400


@pytest.mark.parametrize("seconds", ["0", "-5", "ten", "nan", "3601", ""])
def test_a_span_that_cannot_be(api: Any, seconds: str) -> None:
    answer = api.get(f"/api/v1/stats/?seconds={seconds}")
    assert answer.status_code == 400
    assert "Use a number of seconds from 1 to 3600" in str(answer.json())


def test_it_is_for_staff_and_answers_while_redis_is_away(api: Any, redis_process: RedisServer) -> None:
    assert Client().get("/api/v1/stats/").status_code == 401
    assert api.get("/api/v1/stats/?secnds=5").status_code == 400
    assert api.post("/api/v1/stats/", {}).status_code == 405
    redis_process.kill()
    answer = api.get("/api/v1/stats/")
    assert answer.status_code == 503 and "cannot be reached" in answer.json()["detail"]
