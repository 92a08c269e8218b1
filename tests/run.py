"""Run the tests on every database: `python -m tests.run [--slow] [arguments of pytest]`.

With `--slow`, only the tests marked `slow` run, one leg after the other, and what they print is shown.
A leg whose servers are not on this machine is skipped and shown at the end; with CI=true or
REQUIRE_ALL_LEGS=1 that counts as a failure. Exit code: 0 if every leg passed, else 1.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

#: What each leg sets. On PostgreSQL the tests of whole workers have a leg to themselves: they wait most of the time.
LEGS = {
    "sqlite": {"TEST_DATABASE": "sqlite"},
    "postgresql": {"TEST_DATABASE": "postgresql", "TEST_PART": "all but workers"},
    "workers": {"TEST_DATABASE": "postgresql", "TEST_PART": "workers"},
}
#: The same for `--slow`. One after the other, as their figures would suffer from each other.
SLOW_LEGS = {"sqlite": {"TEST_DATABASE": "sqlite"}, "postgresql": {"TEST_DATABASE": "postgresql"}}
SLOW_ARGUMENTS = ["-m", "slow", "-s", "--durations=0", "--durations-min=1"]
CANNOT_RUN = 77  # tests/conftest.py: the leg's servers are not on this machine
ROOT = Path(__file__).resolve().parent.parent


class Leg:
    """One of `LEGS`: pytest on one database, in a process of its own.

    Args:
        name: Which one.
        arguments: Those of pytest.
        output: Where its output is kept until `wait`; None prints it as it comes.
        variables: Its environment variables; None takes those of `LEGS`.
    """

    def __init__(
        self,
        name: str,
        arguments: list[str],
        output: IO[bytes] | None,
        variables: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self.seconds = 0.0
        self._output = output
        self._began = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *arguments],
            cwd=ROOT,
            env=_environment() | (variables or LEGS[name]),
            stdout=output,
            stderr=output and subprocess.STDOUT,
        )

    def wait(self) -> str:
        """Wait for its end, print what was kept, and return its result in a word or two."""
        code = self._process.wait()
        self.seconds = time.monotonic() - self._began
        if self._output is not None:
            print(f"── tests on {self.name} ──", flush=True)
            self._output.seek(0)
            shutil.copyfileobj(self._output, sys.stdout.buffer)
            sys.stdout.flush()
        results = {0: "passed", 2: "interrupted", 5: "no test ran", CANNOT_RUN: "SKIPPED"}
        return results.get(code, f"FAILED (exit code {code})")


def _environment() -> dict[str, str]:
    """This one, without settings that pytest-django would read before tests/conftest.py has said which database."""
    return {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}


def run_legs(arguments: list[str]) -> dict[str, tuple[str, float]]:
    """Run every leg; the first prints as it goes, the others, beside it, are shown when it has ended. Tests wait for
    processes most of the time, so that several legs at once take little longer than one."""
    first, *others = LEGS
    print(f"── tests on {first} ({', '.join(others)} at the same time, shown after it) ──", flush=True)
    with contextlib.ExitStack() as stack:
        legs = [Leg(first, arguments, None)]
        legs += [Leg(leg, arguments, stack.enter_context(tempfile.TemporaryFile())) for leg in others]
        results = {}
        for leg in legs:
            result = leg.wait()
            results[leg.name] = (result, leg.seconds)
        return results


def run_slow_legs(arguments: list[str]) -> dict[str, tuple[str, float]]:
    """Run the slow tests on each database, one leg after the other; each prints as it goes."""
    results = {}
    for name, variables in SLOW_LEGS.items():
        print(f"── slow tests on {name} ──", flush=True)
        leg = Leg(name, [*SLOW_ARGUMENTS, *arguments], None, variables)
        result = leg.wait()
        results[name] = (result, leg.seconds)
    return results


def main(arguments: list[str]) -> int:
    """Run all legs and print how each went."""
    slow = "--slow" in arguments
    arguments = [word for word in arguments if word != "--slow"]
    require_all = any(
        os.environ.get(name, "").lower() in ("1", "true", "yes") for name in ("CI", "REQUIRE_ALL_LEGS")
    )
    results = run_slow_legs(arguments) if slow else run_legs(arguments)
    print("\nlegs", flush=True)
    for leg, (result, seconds) in results.items():
        print(f"  {leg:<12} {seconds:7.1f} s  {result}")
    skipped = [leg for leg, (result, _) in results.items() if result == "SKIPPED"]
    if skipped:
        print(f"\n!!! SKIPPED: {', '.join(skipped)}: its servers are not on this machine, see above. !!!")
        if require_all:
            print("!!! No skip is allowed here (CI or REQUIRE_ALL_LEGS is set). !!!")
    allowed = {"passed"} if require_all else {"passed", "SKIPPED"}
    if arguments or slow:
        allowed.add("no test ran")  # a selection may hold none that asks the database
    if not any(result == "passed" for result, _ in results.values()):
        return 1
    return 0 if all(result in allowed for result, _ in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
