"""`python -m bench.chaos`: start everything, make the faults, let it settle, and count."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from bench.chaos.plan import KINDS, Plan
from bench.runtime.processes import ServerUnavailable

WIDTH = 150  # columns of the tables where there is no terminal


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line; what is wrong with it ends the program with one line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.chaos",
        description="Break everything at random, and count what became of every job.",
    )
    parser.add_argument(
        "--seconds", type=_number, default=120.0, metavar="N", help="with faults (default: 120)"
    )
    parser.add_argument(
        "--seed", type=int, metavar="N", help="of faults and jobs (default: a new one, printed)"
    )
    parser.add_argument(
        "--every", type=_number, default=2.5, metavar="S", help="seconds between faults (default: 2.5)"
    )
    parser.add_argument(
        "--rate",
        type=_number,
        default=400.0,
        metavar="N",
        help="jobs a second, rolled back ones included (default: 400)",
    )
    parser.add_argument(
        "--settle",
        type=_number,
        default=90.0,
        metavar="S",
        help="most seconds without progress at the end (default: 90)",
    )
    parser.add_argument(
        "--only", type=_kinds, default=tuple(KINDS), metavar="A,B", help=f"of {', '.join(KINDS)}"
    )
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep all logs and ledgers there, whatever happens"
    )
    return parser.parse_args(arguments)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 0.1")
    return value


def _kinds(text: str) -> tuple[str, ...]:
    names = {name.strip() for name in text.split(",") if name.strip()}
    if unknown := sorted(names - KINDS.keys()):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)} is no fault; choose from {', '.join(KINDS)}")
    if not names:
        raise argparse.ArgumentTypeError(f"name at least one of {', '.join(KINDS)}")
    return tuple(name for name in KINDS if name in names)


def main(arguments: list[str]) -> int:
    """Run it; returns the exit code: 0 if every promise was kept, 1 if not, or if it could not be run."""
    options = parse(arguments)
    plan = Plan(
        seconds=options.seconds,
        seed=random.randrange(1, 100_000) if options.seed is None else options.seed,
        every=options.every,
        rate=options.rate,
        settle=options.settle,
        kinds=options.only,
    )
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(143)
    )  # an orderly end: processes, servers and folders go
    folder = options.keep or Path(tempfile.mkdtemp(prefix="jq-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        print(f"bench.chaos: {folder} is not empty.", file=sys.stderr)
        return 2
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    kept = True
    again = f"python -m bench.chaos {' '.join(_without_seed(arguments))} --seed {plan.seed}".replace(
        "  ", " "
    )
    try:
        from bench.chaos import run

        kept = run.run(plan, folder, console)
    except KeyboardInterrupt:
        print("bench.chaos: interrupted.", file=sys.stderr)
        return 130
    except ServerUnavailable as error:
        print(f"bench.chaos: {error}", file=sys.stderr)
        return 1
    finally:
        if kept and options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    console.print(f"Once more: {again}", highlight=False, soft_wrap=True)
    if not kept:
        console.print(
            f"[bold red]BREACHED.[/] All logs and ledgers are in {folder}.", highlight=False, soft_wrap=True
        )
        return 1
    console.print("Every promise was kept.", highlight=False)
    return 0


def _without_seed(arguments: list[str]) -> list[str]:
    result, skip = [], False
    for word in arguments:
        if skip:
            skip = False
        elif word == "--seed" or word == "--keep":
            skip = True
        elif not word.startswith(("--seed=", "--keep=")):
            result.append(word)
    return result


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # fault threads that hang must not keep it
