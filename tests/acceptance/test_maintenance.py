"""The duties of real processes: who leads when the leader dies, is frozen or told to stop; `runmaintenance`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from bench.runtime.servers import RedisServer
from bench.runtime.waiting import wait_until
from bench.runtime.workers import ROOT, WorkerProcess
from queue_app.dispatch import connection, epochs, queue_stats, workers
from queue_app.lifecycle import push
from queue_app.maintenance import history
from queue_app.maintenance.duty_list import DUTIES
from queue_app.models import Job, Worker
from tests.app import tasks
from tests.support.marks import committed, on_postgresql_alone
from tests.support.whole_workers import StartWorker, processes, wait_for_end

pytestmark = [committed, on_postgresql_alone]

SHORT = {"LEASE": 2.0}


def leader(but: tuple[str, int] | None = None) -> tuple[str, int]:
    """Who leads and under which token, as soon as somebody does; somebody else than `but`."""

    def found() -> tuple[str, int] | None:
        now = workers.leader(connection.client())
        return None if now is None or (but is not None and now[0] == but[0]) else now

    return wait_until(found, 60, "a leader")  # type: ignore[return-value]


def everything_done_by(leader_id: str) -> None:
    """Wait until every duty was last done by this one."""

    def left() -> set[str]:
        found = history.read(connection.client())
        return {d.name for d in DUTIES if d.name not in found or found[d.name].leader != leader_id}

    wait_until(lambda: not left(), 60, lambda: f"these duties, done by {leader_id}: {left()}")


def process_of(leader_id: str, *started: WorkerProcess) -> WorkerProcess:
    pid = Worker.objects.get(pk=leader_id).pid
    return next(process for process in started if process.pid == pid)


def test_killing_the_leader_moves_the_duties(worker: StartWorker) -> None:
    both = worker(settings=SHORT), worker(settings=SHORT)
    wait_until(lambda: Worker.objects.count() == 2, 60, "both rows")
    first = leader()
    everything_done_by(first[0])
    assert wait_for_end([tasks.noop.enqueue().id for _ in range(5)]) == ["succeeded"] * 5
    process_of(first[0], *both).kill()
    second = leader(but=first)
    assert second[1] > first[1]
    everything_done_by(second[0])
    assert history.read(connection.client())["reap"].token == second[1]
    wait_until(lambda: queue_stats.load(connection.client()), 60, "figures, once the rebuild is done")
    ended = queue_stats.count(connection.client(), ["default"])["default"].ended
    assert ended == {"succeeded": 5}, "what real children have counted"


def test_a_frozen_leader_does_not_lead_when_it_thaws(worker: StartWorker) -> None:
    both = worker(settings=SHORT), worker(settings=SHORT)
    wait_until(lambda: Worker.objects.count() == 2, 60, "both rows")
    first = leader()
    frozen = process_of(first[0], *both)
    keeper = processes(frozen, "keeper")[0].pid
    os.kill(keeper, signal.SIGSTOP)
    second = leader(but=first)
    everything_done_by(second[0])
    os.kill(keeper, signal.SIGCONT)
    seen = history.read(connection.client())["rebuild"].runs

    def rounds() -> bool:
        found = history.read(connection.client())["rebuild"]
        assert (found.leader, found.token) == second
        return found.runs >= seen + 5

    wait_until(rounds, 60, "five more rounds, all of the new leader")
    assert workers.leader(connection.client()) == second
    assert "Traceback" not in frozen.output()


def test_a_leader_that_stops_hands_over_at_once(worker: StartWorker) -> None:
    long = {"LEASE": 30.0}
    old = worker(settings=long)
    first = leader()
    worker(settings=long)
    assert old.stop() == 0
    assert workers.leader(connection.client()) != first, "it resigned, and did not leave it to its lease"


def test_runmaintenance_does_the_duties_of_workers_that_do_not(
    worker: StartWorker, runmaintenance: Callable[..., WorkerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connection.client()
    client.flushall()
    first = worker("--no-maintenance", settings=SHORT)
    second = worker(settings=SHORT | {"MAINTENANCE": False})
    wait_until(lambda: Worker.objects.count() == 2, 60, "both rows")
    assert not epochs.all_open(client) and workers.leader(client) is None
    with monkeypatch.context() as patched:
        patched.setattr(push, "push_quietly", lambda by_queue, made: set())
        job_id = tasks.noop.enqueue().id
    maintenance = runmaintenance()
    maintenance.wait_for("leading, token 1")
    assert wait_for_end([job_id]) == ["succeeded"]
    leader_id, token = leader()
    everything_done_by(leader_id)
    assert token == 1 and not Worker.objects.filter(pk=leader_id).exists(), "it is no worker"
    assert maintenance.stop() == 0
    assert maintenance.output().endswith("no longer leading\nstopped\n")
    assert workers.leader(client) is None
    assert first.stop() == second.stop() == 0


def test_a_second_runmaintenance_stands_by(runmaintenance: Callable[..., WorkerProcess]) -> None:
    first = runmaintenance()
    first.wait_for("leading, token 1")
    second = runmaintenance()
    second.wait_for("standing by: ")
    first.kill()
    second.wait_for("leading, token 2")
    second.signal(signal.SIGINT)
    assert second.wait() == 0
    assert "Traceback" not in second.output()


def test_runmaintenance_outlives_an_outage(
    runmaintenance: Callable[..., WorkerProcess], redis_process: RedisServer
) -> None:
    process = runmaintenance()
    process.wait_for("leading, token 1")
    redis_process.kill()
    process.wait_for("Lost the redis: ")
    redis_process.start()
    process.wait_for("no longer leading\nleading, token 2")
    wait_until(lambda: epochs.all_open(connection.client()), 60, "the rebuild")
    assert process.stop() == 0
    assert "Traceback" not in process.output()


@pytest.mark.parametrize(
    "environment,text",
    [
        (
            {"REDIS_URL": "unix:///nowhere/redis.sock"},
            "Redis at unix:///nowhere/redis.sock cannot be reached",
        ),
        (
            {"TEST_QUEUE_APP": '{"LEESE": 1}'},
            "QUEUE_APP has the unknown setting 'LEESE'. Did you mean 'LEASE'?",
        ),
        ({"TEST_QUEUE_APP": '{"MAINTENANCE": 1}'}, "QUEUE_APP['MAINTENANCE'] must be True or False, not 1."),
    ],
)
def test_what_is_wrong_at_the_start_is_one_clear_line(
    runmaintenance: Callable[..., WorkerProcess], environment: dict[str, str], text: str
) -> None:
    process = runmaintenance(**environment)
    assert process.wait() == 1
    assert text in process.output() and "Traceback" not in process.output()


def test_a_process_killed_between_commit_and_push_loses_nothing(
    worker: StartWorker, worker_env: dict[str, str]
) -> None:
    """With the settings that everybody has; the sweep is due for it within 10 s (see test_sweep)."""
    process = worker()
    wait_until(lambda: epochs.all_open(connection.client()), 60, "the first rebuild")
    code = """if True:
        import django, os, signal
        django.setup()
        from queue_app.lifecycle import push
        from tests.app import tasks
        push.push_quietly = lambda by_queue, made: os.kill(os.getpid(), signal.SIGKILL)
        tasks.noop.enqueue("lost")
    """
    ended = subprocess.run([sys.executable, "-c", code], env=worker_env, cwd=ROOT, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    (lost,) = Job.objects.filter(payload__contains="lost")
    assert wait_for_end([str(lost.pk)]) == ["succeeded"]
    assert "1 waiting jobs were missing in Redis and were pushed." in process.output()
