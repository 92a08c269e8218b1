"""`python -m bench`: start the stores, measure, write the results and print them; or compare with another version."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from bench import stores as servers
from bench.against import compare
from bench.plan import MEASURES, Plan, quick, with_jobs
from bench.progress import Progress
from bench.runtime.processes import ServerUnavailable
from bench.worker import BenchError

if TYPE_CHECKING:  # its import needs Django to be set up
    from bench.report import Figures

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results.json"
PARTIAL_RESULTS = ROOT / "var" / "bench.json"
COMPARISON = ROOT / "var" / "against.json"
ROUNDS = 10  # of a comparison
LEAST_JOBS = 1_000
WIDTH = 130  # columns of the table where there is no terminal


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line; what is wrong with it ends the program with one line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure on private servers.")
    parser.add_argument(
        "--quick", action="store_true", help="seconds instead of minutes; the figures mean little"
    )
    parser.add_argument(
        "--only",
        type=_measures,
        metavar="A,B",
        help=f"of {','.join(MEASURES)} (default: all); with --against of {','.join(compare.MEASURES)}"
        f" (default: {','.join(compare.DEFAULT)})",
    )
    parser.add_argument("--jobs", type=_jobs, metavar="N", help="no-op jobs of one drain (default: 60000)")
    parser.add_argument(
        "--full", action="store_true", help="drain the backlog of a million to its end as well"
    )
    parser.add_argument(
        "--against", metavar="REF", help="compare this checkout with another commit, in turns, by pairs"
    )
    parser.add_argument(
        "--rounds", type=_rounds, metavar="N", help="of --against: times each is measured (default: 10)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="where the figures go (default: bench/results.json; with --quick, --only or --jobs var/bench.json;"
        " with --against var/against.json)",
    )
    options = parser.parse_args(arguments)
    if options.rounds and not options.against:
        parser.error("argument --rounds: it counts the rounds of --against REF, which is missing")
    if options.against and (wrong := set(options.only or ()) - set(compare.MEASURES)):
        parser.error(f"argument --only: --against does not compare {', '.join(sorted(wrong))}")
    if options.only is None:
        options.only = compare.DEFAULT if options.against else MEASURES
    return options


def _measures(text: str) -> tuple[str, ...]:
    names = {name.strip() for name in text.split(",") if name.strip()}
    if unknown := sorted(names - set(MEASURES)):
        raise argparse.ArgumentTypeError(
            f"{', '.join(unknown)} is not measured; choose from {', '.join(MEASURES)}"
        )
    if not names:
        raise argparse.ArgumentTypeError(f"name at least one of {', '.join(MEASURES)}")
    return tuple(name for name in MEASURES if name in names)


def _rounds(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 1000")
    return int(text)


def _jobs(text: str) -> int:
    if not text.isdecimal() or int(text) < LEAST_JOBS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {LEAST_JOBS}")
    return int(text)


def make_plan(options: argparse.Namespace) -> Plan:
    """The plan that the command line asks for."""
    plan = Plan(only=options.only, full=options.full)
    if options.quick:
        plan = quick(plan)
    if options.jobs:
        plan = with_jobs(plan, options.jobs)
    return plan


def run(plan: Plan, output: Path, console: Console) -> None:
    """Take the measures of the plan on new servers.

    Raises:
        ServerUnavailable: PostgreSQL or Redis cannot be run here.
        BenchError: a measure cannot be trusted.
    """
    began = time.monotonic()
    console.print(f"Starting PostgreSQL and Redis … ({os.cpu_count()} cores)", highlight=False)
    with servers.running() as stores:
        # Before Django is imported; the workers inherit it.
        os.environ.update(stores.environment())
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        if (kind := stores.filesystem()) in ("tmpfs", "ramfs", "overlay"):
            console.print(
                f"! PostgreSQL's data is on {kind}: a commit may cost less than on a disk.", highlight=False
            )
        from bench import report

        with Progress(console) as progress:
            figures = measure(stores, plan, progress)
        found = report.versions(stores)
    report.write(output, report.as_json(figures, found))
    report.show(console, figures, plan, found)
    passed = time.monotonic() - began
    console.print(
        f"Took {passed:.0f} s; the figures are in {_short(output)}.", highlight=False, soft_wrap=True
    )


def measure(stores: servers.Stores, plan: Plan, progress: Progress) -> Figures:
    """Take the measures; they need Django to be set up."""
    from bench import backlog, drain, enqueue, idle, latency, rebuild, report, worker

    figures = report.Figures()
    if "one" in plan.only:
        figures.one = enqueue.one(stores, plan, progress)
    if "many" in plan.only:
        figures.many = enqueue.many(stores, plan, progress)
    if "rebuild" in plan.only:
        figures.rebuild = rebuild.rebuild(stores, plan, progress)
    if "holders" in plan.only:
        figures.holders = rebuild.holders(stores, plan, progress)
    if "drain" in plan.only:
        figures.drain = drain.drain(stores, plan, progress)
    if "backlog" in plan.only:
        figures.backlog = backlog.backlog(stores, plan, progress)
    if "latency" in plan.only or "idle" in plan.only:
        stores.reset()
        with worker.working(stores, paused=False) as running:
            if "latency" in plan.only:
                figures.latency = latency.latency(stores, running, plan, progress)
            if "idle" in plan.only:
                figures.idle = idle.idle(running, plan, progress)
    return figures


def _short(path: Path) -> Path:
    path = path.resolve()
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def main(arguments: list[str]) -> int:
    """Run the bench; returns the exit code."""
    options = parse(arguments)
    plan = make_plan(options)
    whole = not options.quick and not options.jobs and plan.only == MEASURES
    output = options.output or (COMPARISON if options.against else RESULTS if whole else PARTIAL_RESULTS)
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an orderly end: servers and folders go
    try:
        if options.against:
            compare.compare(options.against, plan, options.rounds or ROUNDS, output, console)
        else:
            run(plan, output, console)
    except KeyboardInterrupt:
        print("bench: interrupted.", file=sys.stderr)
        return 130
    except (
        ServerUnavailable,
        BenchError,
        AssertionError,
    ) as error:  # the last: what was waited for did not come
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
