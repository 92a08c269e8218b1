"""Run the tests on every database: `python -m tests.run [arguments of pytest]`.

A leg whose servers are not on this machine is skipped and shown at the end; with CI=true or
REQUIRE_ALL_LEGS=1 that counts as a failure. Exit code: 0 if every leg passed, else 1.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

LEGS = ("sqlite", "postgresql")
CANNOT_RUN = 77  # tests/conftest.py: the leg's servers are not on this machine
ROOT = Path(__file__).resolve().parent.parent


def run_leg(database: str, arguments: list[str]) -> tuple[str, float]:
    """Run pytest on one database; returns its result in a word or two and the seconds it took."""
    print(f"── tests on {database} ──", flush=True)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments], cwd=ROOT, env=os.environ | {"TEST_DATABASE": database}
    )
    results = {0: "passed", 2: "interrupted", 5: "no test ran", CANNOT_RUN: "SKIPPED"}
    return results.get(done.returncode, f"FAILED (exit code {done.returncode})"), time.monotonic() - began


def main(arguments: list[str]) -> int:
    """Run all legs and print how each went."""
    require_all = any(
        os.environ.get(name, "").lower() in ("1", "true", "yes") for name in ("CI", "REQUIRE_ALL_LEGS")
    )
    results = {}
    for leg in LEGS:
        results[leg] = run_leg(leg, arguments)
        if results[leg][0] == "interrupted":
            break
    print("\nlegs", flush=True)
    for leg, (result, seconds) in results.items():
        print(f"  {leg:<12} {seconds:7.1f} s  {result}")
    skipped = [leg for leg, (result, _) in results.items() if result == "SKIPPED"]
    if skipped:
        print(f"\n!!! SKIPPED: {', '.join(skipped)}: its servers are not on this machine, see above. !!!")
        if require_all:
            print("!!! No skip is allowed here (CI or REQUIRE_ALL_LEGS is set). !!!")
    allowed = {"passed"} if require_all else {"passed", "SKIPPED"}
    if arguments:
        allowed.add("no test ran")  # a selection may hold none that asks the database
    if not any(result == "passed" for result, _ in results.values()):
        return 1
    return 0 if all(result in allowed for result, _ in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
