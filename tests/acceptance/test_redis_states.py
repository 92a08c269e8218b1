"""P2: a Redis that answers, but not as it should: enqueueing goes on in each state, and workers come back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from bench.runtime.processes import free_port
from bench.runtime.servers import redis_server
from queue_app.lifecycle.redis_breaker import breaker
from queue_app.models import Attempt, Job
from tests.app import tasks
from tests.support.marks import committed, on_postgresql_alone
from tests.support.whole_workers import StartWorker, pids, wait_for_end

pytestmark = [committed, on_postgresql_alone]

#: What is not pushed is found soon.
QUICK: dict[str, Any] = {"SWEEP_GRACE": 1.0}


def out_of_memory(client: redis.Redis) -> Callable[[], object]:
    client.config_set("maxmemory", "1")
    return lambda: client.config_set("maxmemory", "0")


def read_only_replica(client: redis.Redis) -> Callable[[], object]:
    client.replicaof("127.0.0.1", str(free_port()))  # a primary that is not there: nothing is copied
    return lambda: client.replicaof("NO", "ONE")


def without_scripts(client: redis.Redis) -> Callable[[], object]:
    client.script_flush()
    return client.script_flush


def slow(client: redis.Redis) -> Callable[[], object]:
    client.client_pause(1_500, all=True)
    return lambda: None


@pytest.mark.parametrize("state", [out_of_memory, read_only_replica, without_scripts, slow])
def test_a_redis_that_will_not(
    worker: StartWorker, clean_redis: redis.Redis, state: Callable[[redis.Redis], Callable[[], object]]
) -> None:
    process = worker("--processes", "2", settings=QUICK)
    children = pids(process)
    ids = [tasks.noop.enqueue().id for _ in range(5)]
    heal = state(clean_redis)
    try:
        ids += [result.id for result in tasks.noop.enqueue_many([((), {})] * 20)]
        ids.append(tasks.noop.enqueue().id)
        assert Job.objects.filter(pk__in=ids).count() == 26
        if state is read_only_replica:
            process.wait_for("is a read-only replica; point QUEUE_APP['REDIS_URL'] at the primary")
    finally:
        heal()
    breaker.reset()
    ids.append(tasks.noop.enqueue().id)
    assert set(wait_for_end(ids)) == {"succeeded"}
    assert Attempt.objects.count() == len(ids), "none ran twice"
    assert pids(process) == children
    assert process.stop() == 0
    assert "Traceback" not in process.output()


def test_a_redis_that_is_loading(
    worker: StartWorker,
    tmp_path: Path,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    clean_redis: redis.Redis,
) -> None:
    """It was restarted with persistence, and reads its file: every command is refused with LOADING."""
    if int(clean_redis.info("server")["redis_version"].split(".")[0]) < 7:
        pytest.skip("this Redis cannot be told to answer while it loads a small file")
    options = [
        "--dir",
        str(tmp_path),
        "--dbfilename",
        "dump.rdb",
        "--loading-process-events-interval-bytes",
        "1024",
    ]
    with redis_server(tmp_path / "redis", *options, "--key-load-delay", "1000") as server:
        settings.QUEUE_APP = settings.QUEUE_APP | {"REDIS_URL": server.url}
        process = worker(settings=QUICK, environment={"REDIS_URL": server.url})
        assert wait_for_end([tasks.noop.enqueue().id]) == ["succeeded"]
        waiting = tasks.noop.using(queue_name="mail").enqueue().id
        with server.client() as client:
            client.mset({f"other:{n}": "x" * 50 for n in range(3_000)})
            client.save()
        server.kill()
        monkeypatch.setattr(server, "answers", lambda: _loading(server.client()))
        server.start()  # and not wait until it has loaded
        breaker.reset()
        ids = [tasks.noop.enqueue().id for _ in range(3)]
        assert Job.objects.filter(pk__in=ids, state="queued").count() == 3
        assert _loading(server.client()), "it was too quick"
        assert set(wait_for_end(ids)) == {"succeeded"}
        assert Job.objects.get(pk=waiting).state == "queued"
        assert process.stop() == 0
        assert "Traceback" not in process.output()


def _loading(client: redis.Redis) -> bool:
    try:
        client.ping()
    except redis.exceptions.BusyLoadingError:
        return True
    except redis.exceptions.RedisError:
        return False
    return False
