"""All promises at once: a minute of random faults with a fixed seed. `make chaos` takes ten minutes, and any seed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
#: Seconds for everything around the minute of faults, on a machine that is busy with other things.
AROUND = 210


def chaos(*arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run the driver in an environment whose stores cannot be used: it has its own."""
    return subprocess.run(
        [sys.executable, "-m", "bench.chaos", *arguments],
        cwd=ROOT,
        env=os.environ | {"DATABASE_URL": "nothing", "REDIS_URL": "nothing"},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.mark.timeout(60 + AROUND + 30)
@pytest.mark.django_db  # so that it runs where PostgreSQL is: the driver starts one of its own
@pytest.mark.usefixtures("postgresql_process")
def test_a_minute_of_faults_breaks_no_promise(tmp_path: Path) -> None:
    arguments = ("--seconds", "60", "--seed", "7", "--rate", "200", "--settle", "120")
    done = chaos(*arguments, "--keep", str(tmp_path / "run"), timeout=60 + AROUND)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "Every promise was kept." in said
    found = re.search(r"([\d,]+) jobs, (\d+) faults", said)
    assert found, said
    # It must have been a test of something; how much gets done depends on the machine.
    assert int(found[1].replace(",", "")) > 1_000 and int(found[2]) >= 10, said
    assert f"python -m bench.chaos {' '.join((*arguments[:2], *arguments[4:], *arguments[2:4]))}" in said


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--only", "child,redis-flesh"], "redis-flesh is no fault; choose from child, keeper"),
        (["--only", ","], "name at least one of child, keeper"),
        (["--seconds", "soon"], "'soon' is not a number of at least 0.1"),
        (["--seed", "x"], "invalid int value: 'x'"),
    ],
)
def test_wrong_arguments_end_with_one_line_before_anything_is_started(
    arguments: list[str], named: str
) -> None:
    done = chaos(*arguments)
    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr and not done.stdout
