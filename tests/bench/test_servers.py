"""The servers that tests run on: addresses that survive a restart, and no server left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import redis

from bench.runtime.processes import ServerUnavailable
from bench.runtime.replicas import replica_of
from bench.runtime.servers import postgresql_server, redis_server
from bench.runtime.waiting import wait_until
from bench.runtime.workers import ROOT
from tests.dispatch.test_embedded import alive


@pytest.fixture(scope="module")
def postgres():
    try:
        with postgresql_server(fsync="off") as server:
            yield server
    except ServerUnavailable as error:
        pytest.skip(str(error))


def test_redis_comes_back_empty_at_the_same_address(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        server.client().set("key", "value")
        url, pid = server.url, server.pid
        server.kill()
        assert not server.answers() and not server.running
        server.restart()
        assert (server.url, server.client().get("key")) == (url, None)
        assert server.pid != pid
    assert not server.answers()


def test_redis_on_tcp_takes_options() -> None:
    with redis_server(None, "--maxmemory", "10mb", tcp=True) as server:
        assert server.url.startswith("redis://127.0.0.1:")
        assert server.client().config_get("maxmemory") == {"maxmemory": str(10 * 1024 * 1024)}


def test_redis_starts_from_a_snapshot_only_when_told_to(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        server.client().set("key", "then")
        snapshot = server.save()
        server.client().set("key", "later")
        server.save()
        for _ in range(2):
            server.kill()
            server.start(snapshot)
            assert server.client().get("key") == b"then"
        server.restart()
        assert server.client().dbsize() == 0


@pytest.mark.parametrize("tcp", [False, True])
def test_a_replica_that_was_cut_off_answers_at_the_address_of_the_dead_primary(
    tmp_path: Path, tcp: bool
) -> None:
    with redis_server(tmp_path, tcp=True) as server:
        if not tcp:
            server.url = server.socket_url
        elif int(server.client().info("server")["redis_version"].split(".")[0]) < 7:
            pytest.skip("this Redis cannot take over a port")
        old = server.client().info("server")["run_id"]
        server.client().set("key", "then")
        with replica_of(server) as replica:
            server.client().set("key", "last")
            replica.cut_off()
            server.client().set("key", "later")
            replica.promote()
            assert server.client().get("key") == b"last"
            server.client().set("key", "new")
        assert server.client().get("key") == b"new"
        assert server.client().info("server")["run_id"] != old
        snapshot = server.save()
        server.kill()
        server.start(snapshot)
        assert server.client().get("key") == b"new"
        server.restart()
        assert server.client().dbsize() == 0
    assert not server.answers()


def test_redis_with_limited_memory_refuses_writes(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server, server.client() as client:
        server.limit_memory(1_000_000)
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            for number in range(100):
                client.set(f"key {number}", "x" * 100_000)
        server.limit_memory(None)
        client.set("key", "value")


def test_a_paused_redis_answers_again_when_resumed() -> None:
    with redis_server() as server:
        server.pause()
        with pytest.raises(Exception, match=r"[Tt]imeout"):
            server.client(socket_timeout=0.1, retry=None).ping()
        server.resume()
        assert server.answers()


def test_a_wrong_option_says_what_the_server_said(tmp_path: Path) -> None:
    with (
        pytest.raises(ServerUnavailable, match="no-such-option"),
        redis_server(tmp_path, "--no-such-option", "1"),
    ):
        pass


def test_postgresql_keeps_what_was_committed_before_a_kill(postgres) -> None:
    with postgres.connect() as connection:
        connection.execute("CREATE TABLE kept (n int)")
        connection.execute("INSERT INTO kept VALUES (7)")
    open_one = postgres.connect()  # its backend outlives the postmaster for a moment
    postgres.kill()
    postgres.restart()
    with pytest.raises(psycopg.OperationalError):
        open_one.execute("SELECT 1")
    with postgres.connect() as connection:
        assert connection.execute("SELECT n FROM kept").fetchone() == (7,)


def test_both_urls_of_postgresql_reach_it_and_settings_count(postgres) -> None:
    import environ

    for url in (postgres.url, postgres.socket_url):
        config = environ.Env.db_url_config(url)
        port = config["PORT"] or config["OPTIONS"]["port"]
        address = {"host": config["HOST"], "port": port, "user": config["USER"], "dbname": config["NAME"]}
        with psycopg.connect(**address) as connection:
            assert connection.execute("SHOW fsync").fetchone() == ("off",)


def test_servers_die_with_a_killed_parent(postgres) -> None:
    code = (
        "from bench.runtime.servers import *\n"
        "with redis_server() as one, postgresql_server(fsync='off') as two:\n"
        "    print(one.pid, two.pid, one.url, two.folder, flush=True); input()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    first, second, *folders = parent.stdout.readline().split()
    assert alive(int(first)) and alive(int(second))
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()
    wait_until(lambda: not alive(int(first)), message="Redis's end")
    wait_until(lambda: not alive(int(second)), message="PostgreSQL's end")
    subprocess.run(["rm", "-rf", folders[1], os.path.dirname(folders[0].removeprefix("unix://"))], check=True)
