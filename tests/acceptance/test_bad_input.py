"""What is wrong at the start is said in one line with the remedy: no traceback, and a telling exit code."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import CommandError, call_command

from queue_app.worker.supervisor import Supervisor
from tests.app import tasks
from tests.support.marks import committed, on_sqlite_alone
from tests.support.whole_workers import StartWorker, wait_for_end

pytestmark = [committed, on_sqlite_alone]


@pytest.mark.parametrize(
    "environment,settings,said",
    [
        (
            {"REDIS_URL": "redis://:secret@127.0.0.1:1/0"},
            {},
            "CommandError: Redis at redis://:***@127.0.0.1:1/0 cannot be reached (Error 111 connecting to"
            " 127.0.0.1:1. Connection refused.); start it, or correct QUEUE_APP['REDIS_URL'].",
        ),
        (
            {"DATABASE_URL": "postgresql://somebody:secret@127.0.0.1:1/nothing"},
            {},
            "CommandError: The database 'default' cannot be reached (",
        ),
        (
            {"DATABASE_URL": "sqlite:///{folder}/empty.sqlite3"},
            {},
            "CommandError: The database 'default' has no tables of queue_app; run manage.py migrate.",
        ),
        ({}, {"LEAS": 3}, "QUEUE_APP has the unknown setting 'LEAS'. Did you mean 'LEASE'?"),
        ({}, {"CLAIM_MAX": "many"}, "QUEUE_APP['CLAIM_MAX'] must be a whole number, not 'many'."),
    ],
    ids=["no Redis", "no database", "no tables", "unknown setting", "wrong value"],
)
def test_a_worker_that_cannot_start_says_why(
    worker: StartWorker,
    tmp_path_factory: pytest.TempPathFactory,
    environment: dict[str, str],
    settings: dict[str, Any],
    said: str,
) -> None:
    folder = str(tmp_path_factory.mktemp("empty"))
    variables = {name: value.format(folder=folder) for name, value in environment.items()}
    process = worker(ready=False, environment=variables, settings=settings)
    assert process.wait() not in (0, None)
    output = [line for line in process.output().splitlines() if line.strip()]
    if output[0].startswith("SystemCheckError"):  # Django's own frame around what is wrong with settings
        output = output[2:]
    assert len(output) == 1, process.output()
    assert said in output[0]
    assert "secret" not in output[0]


@pytest.mark.parametrize(
    "arguments,said",
    [
        (["--queues", "no spaces"], "queue_name is 'no spaces'"),
        (["--queues", ""], "queue_name is ''"),
        (["--queues", "a,b,a"], "--queues names 'a' twice."),
        (["--queues", "a:0"], "--queues gives 'a' the weight '0'; use a whole number from 1 to 1000."),
        (["--queues", "a:six"], "--queues gives 'a' the weight 'six'"),
        (["--queues", "a:"], "--queues gives 'a' the weight ''"),
        (["--processes", "0"], "argument --processes: '0' is not a whole number from 1 to 10000"),
        (["--slots", "two"], "argument --slots: 'two' is not a whole number"),
        (["--max-jobs", "-1"], "argument --max-jobs: "),
        (["--grace", "soon"], "argument --grace: 'soon' is not a number of seconds"),
        (["--grace", "nan"], "argument --grace: 'nan' is not a number of seconds"),
        (["--backend", "defalt"], "--backend: TASKS has no backend 'defalt'. Did you mean 'default'?"),
        (["--que", "a", "--nonsense"], "unrecognized arguments: --nonsense"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_arguments(arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Supervisor, "run", lambda self: pytest.fail("it started"))
    with pytest.raises(CommandError) as caught:
        call_command("runworker", *arguments)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_error_of_a_task_forges_no_line_of_the_log(worker: StartWorker) -> None:
    from tests.app import dtasks  # Django's Tasks API logs the errors of its tasks too, with their tracebacks

    forged = "2026-11-24 12:00:00,000 ERROR   queue_app: all is lost"
    message = f"no\n{forged}\r{forged}\u2028{forged}\x1b[2J"
    ids = [tasks.fail.using(max_attempts=1).enqueue(message).id, dtasks.fail.enqueue(message).id]
    process = worker()
    assert wait_for_end(ids) == ["failed", "failed"]
    process.stop()
    output = process.output()
    assert output.count("all is lost") > 4 and "\x1b" not in output
    assert not [line for line in output.splitlines() if line.startswith("2026-11-24 12:00")]


def test_a_backend_of_another_kind_cannot_be_served(settings: Any) -> None:
    from queue_app.tasks_api.compat import ROOT

    dummy = {"BACKEND": f"{ROOT}.backends.dummy.DummyBackend"}
    settings.TASKS = settings.TASKS | {"tests": dummy}
    with pytest.raises(CommandError, match="--backend: 'tests' is a DummyBackend, not a JobQueueBackend"):
        call_command("runworker", "--backend", "tests")


def test_the_queues_of_a_backend_are_the_default(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[str] = []

    def run(self: Supervisor) -> int:
        served.append(str(self._config.queues))
        return 0

    monkeypatch.setattr(Supervisor, "run", run)
    settings.TASKS = {"mail": settings.TASKS["default"] | {"QUEUES": ["web", "mail"]}} | settings.TASKS
    call_command("runworker", "--backend", "mail", verbosity=0)
    call_command("runworker", "--backend", "mail", "--queues", "mail:3,web", verbosity=0)
    assert served == ["mail,web", "mail:3,web:1"]
