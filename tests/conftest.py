"""Every run has its own Redis and database; `TEST_DATABASE=postgresql` makes the latter a PostgreSQL.

They must be there before Django's settings are read, hence `pytest_configure` instead of a fixture. Redis is
emptied before each test, but for an epoch, and after it may hold documented keys alone. Tests with real workers use
the fixture `worker` and `@pytest.mark.django_db(transaction=True)`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import redis

from bench.runtime.leaks import undocumented_keys
from bench.runtime.servers import (
    PostgresqlServer,
    RedisServer,
    ServerUnavailable,
    postgresql_server,
    redis_server,
)
from bench.runtime.workers import WorkerProcess
from tests.support.clients import api, boss, pages  # noqa: F401 - fixtures

CANNOT_RUN = 77  # exit code of a leg whose servers are not on this machine; tests/run.py knows it
DATABASE_FIXTURES = {
    "db",
    "transactional_db",
    "django_db_serialized_rollback",
    "client",
    "admin_client",
    "worker",
}

# Examples may be slow on a busy machine, so no deadlines; CI tries the same ones every time.
hypothesis.settings.register_profile(
    "tests", max_examples=50, deadline=None, derandomize=bool(os.environ.get("CI")), print_blob=True
)
hypothesis.settings.load_profile("tests")

_servers = pytest.StashKey[tuple[RedisServer, PostgresqlServer | None]]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Start the servers and point the settings at them, before pytest-django reads these."""
    database = os.environ.get("TEST_DATABASE", "sqlite")
    if database not in ("sqlite", "postgresql"):
        pytest.exit(f"TEST_DATABASE={database!r} is unknown: use sqlite or postgresql.", returncode=4)
    stack = contextlib.ExitStack()
    config.add_cleanup(stack.close)
    try:
        redis_one = stack.enter_context(redis_server(tcp=True))
        redis_one.url = redis_one.socket_url  # the port is for its replicas
        postgres = None
        if database == "postgresql":
            # A test run may lose its data in a power cut; the benches keep PostgreSQL's defaults.
            settings = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
            postgres = stack.enter_context(postgresql_server(**settings))
    except ServerUnavailable as error:
        pytest.exit(str(error), returncode=CANNOT_RUN)
    folder = tempfile.mkdtemp(prefix="jq-tests-")
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    os.environ.update(
        DJANGO_SETTINGS_MODULE="tests.settings",
        DATABASE_URL=postgres.url if postgres else f"sqlite:///{folder}/db.sqlite3",
        REDIS_URL=redis_one.url,
        SECRET_KEY="only for tests",
        DEBUG="false",
        LOG_LEVEL="INFO",
        LOG_FORMAT="text",
    )
    config.stash[_servers] = (redis_one, postgres)
    import django

    django.setup()  # pytest-django does this only for settings that it found itself, earlier


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Each leg runs what belongs to it: on PostgreSQL all that asks the database (the SQLite leg has run the rest),
    on SQLite all but the tests of PostgreSQL itself; with TEST_PART either those of whole workers, or the others."""
    if config.stash[_servers][1] is None:
        wanted = [item for item in items if "postgresql_process" not in getattr(item, "fixturenames", ())]
    else:
        wanted = [item for item in items if _asks_the_database(item)]
    if part := os.environ.get("TEST_PART"):
        here = config.rootpath / "tests" / "acceptance"
        wanted = [item for item in wanted if (here in item.path.parents) == (part == "workers")]
    config.hook.pytest_deselected(items=[item for item in items if item not in wanted])
    items[:] = wanted


def _asks_the_database(item: pytest.Item) -> bool:
    from django.test import SimpleTestCase

    cls = getattr(item, "cls", None)
    of_django = isinstance(cls, type) and issubclass(cls, SimpleTestCase)
    fixtures = set(getattr(item, "fixturenames", ()))
    return of_django or item.get_closest_marker("django_db") is not None or bool(fixtures & DATABASE_FIXTURES)


@pytest.fixture(scope="session")
def redis_process(pytestconfig: pytest.Config) -> RedisServer:
    """The run's Redis, for tests that kill, pause and restart it; the next test finds it up again."""
    return pytestconfig.stash[_servers][0]


@pytest.fixture(scope="session")
def postgresql_process(pytestconfig: pytest.Config) -> PostgresqlServer:
    """The run's PostgreSQL, likewise; tests that need it are skipped on SQLite."""
    server = pytestconfig.stash[_servers][1]
    if server is None:
        pytest.skip("needs TEST_DATABASE=postgresql")
    return server


@pytest.fixture(autouse=True)
def forget_outages() -> Iterator[None]:
    """What this process remembers of a Redis that was away, or of queues, must not reach the next test."""
    # Imported late: this file is read before the settings are.
    from tests.support.state import forget_stores

    yield
    forget_stores()


@pytest.fixture(autouse=True)
def clean_redis(redis_process: RedisServer) -> Iterator[redis.Redis]:
    """A client of a Redis with an epoch alone. Afterwards it must not hold a key that keys.py does not document."""
    from tests.support.epochs import begin_epoch

    if redis_process.running:
        redis_process.resume()
    else:
        redis_process.start()
    # Imported late, as above.

    with redis_process.client() as client:
        client.flushall()
        begin_epoch()  # not of `client`, which does not decode
        yield client
    if redis_process.running:
        redis_process.resume()
        with redis_process.client() as client:
            leaked = undocumented_keys(client)
        assert not leaked, f"left in Redis, and not documented in queue_app/dispatch/keys.py: {leaked}"


@pytest.fixture
def worker_env(request: pytest.FixtureRequest, redis_process: RedisServer) -> dict[str, str]:
    """The environment of a process that shall work on this test's database and Redis."""
    if "transactional_db" not in request.fixturenames and not _transactional(request):
        pytest.fail("other processes see no open transaction: mark the test django_db(transaction=True)")
    from django.db import connection

    name = connection.settings_dict["NAME"]
    postgres = request.config.stash[_servers][1]
    return os.environ | {
        "DATABASE_URL": postgres.database_url(name) if postgres else f"sqlite:///{name}",
        "REDIS_URL": redis_process.url,
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
    }


def _transactional(request: pytest.FixtureRequest) -> bool:
    marker = request.node.get_closest_marker("django_db")
    return bool(marker and (marker.kwargs.get("transaction") or (marker.args and marker.args[0])))


@pytest.fixture
def worker(worker_env: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """A function that starts a real worker and returns when it is ready.

    worker("--queues", "mail", "--processes", "2", settings={"LEASE": 2.0}) → WorkerProcess

    Its arguments are those of `manage.py runworker`. `settings` are laid over QUEUE_APP, `environment` over
    the environment; `ready=False` does not wait. Whatever still runs after the test is ended.
    """
    started: list[WorkerProcess] = []

    def start(
        *arguments: str,
        settings: dict[str, Any] | None = None,
        environment: dict[str, str] | None = None,
        ready: bool = True,
    ) -> WorkerProcess:
        variables = worker_env | {"TEST_QUEUE_APP": json.dumps(settings or {})} | (environment or {})
        log = tmp_path / f"worker-{len(started)}.log"
        # Whoever has its own environment, or is not waited for, may be about the start itself: a fresh interpreter.
        process = WorkerProcess(list(arguments), variables, log, forked=ready and not environment)
        started.append(process)
        if ready:
            process.wait_for("ready")
        return process

    yield start
    for process in started:
        process.clean_up()
