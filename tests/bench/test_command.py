"""`python -m bench`: a tiny run takes every measure and writes every figure. No figure is judged here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.against import verdict
from tests.architecture.imports import ROOT

#: Seconds that the tiny run may take on a machine that is busy with other things.
DEADLINE = 150
KEYS = {
    "drain_per_s",
    "drain_cpu_us.worker",
    "drain_cpu_us.stores",
    "drain_1m_backlog_per_s",
    "enqueue_many_per_s",
    "enqueue_one_per_s",
    "rebuild_per_s",
    "rebuild_with_holders_per_s.few",
    "rebuild_with_holders_per_s.many",
    "floor.insert_commit_per_s",
    "floor.copy_per_s",
    "floor.read_and_push_per_s",
    "floor.settle_per_s",
    "floor.redis_script_per_s",
    "latency_ms.p50",
    "latency_ms.p95",
    "latency_ms.p99",
    "idle_cpu_percent",
    "child_pss_mb",
    "redis_bytes_per_waiting_job",
}


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the bench in an environment whose stores cannot be used: it has its own."""
    return run("-m", "bench", *arguments)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"DATABASE_URL": "nothing", "REDIS_URL": "nothing", "LOG_LEVEL": "DEBUG"},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )


def flat(content: dict[str, object], prefix: str = "") -> dict[str, object]:
    """Nested keys with dots between them."""
    result: dict[str, object] = {}
    for key, value in content.items():
        result |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return result


@pytest.mark.django_db  # so that it runs where PostgreSQL is: the bench starts one of its own
@pytest.mark.usefixtures("postgresql_process")
def test_a_tiny_run_writes_every_figure(tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    done = bench("--quick", "--jobs", "2000", "--output", str(output))
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads(output.read_text())
    versions = content.pop("versions")
    assert {"queue_app", "python", "django", "postgresql", "redis"} <= versions.keys()
    assert all(isinstance(number, str) and number for number in versions.values())
    figures = flat(content)
    assert figures.keys() == KEYS
    for key, value in figures.items():
        assert type(value) in (int, float) and value > 0, (key, value)
    assert figures["latency_ms.p50"] <= figures["latency_ms.p95"] <= figures["latency_ms.p99"]
    for title in ("enqueue one", "enqueue many", "drain", "latency p50", "idle worker"):
        assert title in done.stdout


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--only", "drain,latancy"], "latancy is not measured; choose from one, many, rebuild, holders"),
        (["--only", ","], "name at least one of one, many, rebuild, holders"),
        (["--jobs", "12"], "'12' is not a whole number of at least 1000"),
        (["--jobs", "many"], "'many' is not a whole number"),
        (["--rounds", "3"], "it counts the rounds of --against REF, which is missing"),
        (["--against", "HEAD", "--rounds", "0"], "'0' is not a whole number from 1 to 1000"),
        (["--against", "HEAD", "--only", "drain,backlog"], "--against does not compare backlog"),
    ],
)
def test_wrong_arguments_end_with_one_line_before_anything_is_started(
    arguments: list[str], named: str
) -> None:
    done = bench(*arguments)
    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr and "Starting" not in done.stdout


def test_without_postgresql_it_says_what_to_install() -> None:
    code = "import sys, tests.support.without_postgresql, bench.__main__ as b; sys.exit(b.main(['--quick']))"
    done = run("-c", code)
    assert done.returncode == 1
    assert done.stderr.strip() == "bench: no PostgreSQL found: apt install postgresql."


def test_a_comparison_with_what_git_does_not_know_ends_with_one_line() -> None:
    done = bench("--against", "no-such-commit")
    assert done.returncode == 1
    assert done.stderr.startswith("bench: git has no commit 'no-such-commit' to compare with")
    assert "Starting" not in done.stdout and done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.django_db
@pytest.mark.usefixtures("postgresql_process")
def test_a_tiny_comparison_judges_every_measure(tmp_path: Path) -> None:
    if subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True).returncode:
        pytest.skip("this is no git checkout")
    output = tmp_path / "against.json"
    arguments = ["--quick", "--rounds", "2", "--jobs", "1000", "--only", "many,drain,latency,idle"]
    done = bench("--against", "HEAD", *arguments, "--output", str(output))
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads(output.read_text())
    assert content["measures"].keys() == {measure.key for measure in verdict.MEASURES}
    for key, found in content["measures"].items():
        assert found["before"] > 0 and found["after"] > 0, key
        assert found["low"] <= found["ratio"] <= found["high"]
        assert len(content["rounds"]) == 2
    assert "this checkout against" in done.stdout
