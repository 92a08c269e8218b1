"""One run from the start of the servers to the tables."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
from rich.console import Console

from bench.chaos import account as accounts
from bench.chaos import checker, faults, recovery, report
from bench.chaos.arena import Arena, Fault, arena
from bench.chaos.checker import Check
from bench.chaos.plan import Plan, Planned

#: Prints a line for people.
Say = Callable[[str], None]

#: Seconds between two lines about how far it is; and that workers may take to start, and to stop.
TELL, START, STOP = 10.0, 60.0, 40.0
#: Breaches of one check that are printed in full.
SHOWN = 5
#: Log lines that show a bug of this product, not a fault of a store. No fault may cause them.
FORBIDDEN = re.compile(
    r"The recorder failed|A process of the worker failed|cannot be recorded|left a transaction open"
    r"|Pushing to Redis failed|A duty failed\.$"
)


def run(plan: Plan, folder: Path, console: Console) -> bool:
    """Run the plan.

    Args:
        folder: where logs and ledgers go.

    Returns:
        Whether every promise was kept.

    Raises:
        ServerUnavailable: PostgreSQL or Redis cannot be run here.
    """
    began = time.monotonic()

    def say(line: str) -> None:
        console.print(
            f"{time.monotonic() - began:6.1f} s  {line}", highlight=False, soft_wrap=True, markup=False
        )

    planned = plan.faults()
    say(
        f"seed {plan.seed}: {len(planned)} faults in {plan.seconds:g} s, one every {plan.every:g} s;"
        f" {plan.rate:g} jobs a second"
    )
    with arena(plan, folder, say) as place:
        os.environ.update(place.stores.environment() | {"DJANGO_SETTINGS_MODULE": "bench.chaos.settings"})
        _prepare(place)
        place.crew.start()
        _wait_for_workers(place)
        say("four workers are up")
        made, not_made = _make_faults(place, planned, say)
        say("no more faults; everything has to settle")
        place.crew.stop_enqueueing(20.0)
        since = time.monotonic()
        settled = _settle(place, plan.settle, say)
        say(f"{'settled' if not settled.breaches else 'NOT settled'} after {time.monotonic() - since:.1f} s")
        ends = _ends(place)
        left = checker.leftovers(place)
        account = accounts.read(place)
        checks = [*checker.check(account, made), settled, ends, _logs(place), left]
        recoveries = recovery.measure(account, made)
        report.show(console, plan, checks, recoveries)
        for line in report.breaches(checks, account, made, place.crew.logs(), most=SHOWN):
            console.print(line, highlight=False, soft_wrap=True, markup=False)
        everything = report.breaches(checks, account, made, place.crew.logs(), most=200)
        (folder / "breaches.txt").write_text("".join(f"{line}\n" for line in everything))
        (folder / "faults.txt").write_text("".join(f"{report.clock_time(f.began)} {f}\n" for f in made))
        if place.no_network and "network" in plan.kinds:
            say(f"!!! SKIPPED: the network faults: {place.no_network}. !!!")
        say(
            f"{len(account.jobs):,} jobs, {len(made)} faults ({not_made} found nothing to hit); seed {plan.seed}"
        )
    return not any(check.breaches for check in checks)


def _prepare(place: Arena) -> None:
    import django
    from django.core.management import call_command
    from django.db import connections

    django.setup()
    call_command("migrate", verbosity=0)
    connections.close_all()
    from bench.chaos import tasks

    with place.stores.connect() as connection:
        connection.execute(tasks.TABLES.encode())


def _wait_for_workers(place: Arena) -> None:
    deadline = time.monotonic() + START
    while not all(p.all and p.now.ready for p in place.crew.workers):
        if time.monotonic() > deadline:
            said = "\n".join(path.read_text(errors="replace")[-800:] for path in place.crew.logs())
            raise SystemExit(f"bench.chaos: the workers did not start:\n{said}")
        time.sleep(0.05)


def _make_faults(place: Arena, planned: list[Planned], say: Say) -> tuple[list[Fault], int]:
    """Begin each fault at its time; return when all are over. Gives those that were made, and counts the others."""
    made: list[Fault] = []
    missed: list[str] = []
    threads: list[threading.Thread] = []

    def one(number: int, what: Planned) -> None:
        try:
            fault = faults.make(place, number, what)
        except faults.UNLUCKY as error:
            missed.append(what.kind)
            say(f"fault {number}: {what.kind} was not made: {str(error).strip()}")
            return
        made.append(fault)
        lasted = f", {fault.ended - fault.began:.1f} s" if fault.ended > fault.began else ""
        say(
            f"fault {number}: {what.kind} ({fault.detail or 'all'}{lasted}), {len(fault.inflight)} jobs in flight"
        )

    start, told = time.monotonic(), time.monotonic()
    for number, what in enumerate(planned, 1):
        while (left := start + what.at - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))
            if time.monotonic() - told > TELL:
                told = time.monotonic()
                say(_progress(place))
        thread = threading.Thread(target=one, args=(number, what), daemon=True)
        thread.start()
        threads.append(thread)
    time.sleep(max(0.0, start + place.plan.seconds - time.monotonic()))
    for thread in threads:
        thread.join()
    made.sort(key=lambda fault: fault.began)
    return made, len(missed)


def _progress(place: Arena) -> str:
    try:
        ((jobs, final, effects),) = place.query(
            "SELECT count(*), count(finished_at), (SELECT count(*) FROM chaos_effect) FROM queue_app_job"
        )
    except psycopg.Error:
        return "… the database is away"
    return f"… {jobs:,} jobs, {final:,} final, {effects:,} effects"


def _settle(place: Arena, seconds: float, say: Say) -> Check:
    """Wait until every job has ended, every place is filled, and Redis lists nobody who is dead; at most so many
    seconds without anything getting better: how long the backlog takes is the machine's business."""
    began = told = better = time.monotonic()
    least = sys.maxsize
    while True:
        wrong = _unsettled(place)
        now = time.monotonic()
        if len(wrong) < least:
            least, better = len(wrong), now
        if not wrong or now > better + seconds:
            seen = f"after {now - began:.1f} s" if not wrong else f"not after {now - began:.0f} s"
            return Check(f"settled, with progress at least every {seconds:g} s", seen, wrong)
        if time.monotonic() - told > TELL:
            told = time.monotonic()
            say(
                f"… not yet: {'; '.join(f'{i} {text}'.strip() for i, text in wrong[:2])} ({len(wrong)} reasons)"
            )
        time.sleep(0.2)


def _unsettled(place: Arena) -> list[tuple[str, str]]:
    from queue_app.dispatch import workers

    wrong = [("", f"{p.name} is not up") for p in place.crew.workers if not p.now.ready]
    rows = place.query(
        "SELECT id::text, task, state, attempt, run_after::text FROM queue_app_job"
        " WHERE finished_at IS NULL ORDER BY id"
    )
    wrong += [(row[0], " ".join(map(str, row[1:]))) for row in rows]
    if wrong:
        return wrong
    living = {p.now.id for p in place.crew.workers}
    with place.client() as client:
        wrong = [("", f"{w.id} is listed and is dead") for w in workers.listed(client) if w.id not in living]
    return wrong + [(job_id, "is held, and has ended") for job_id in place.held()]


def _ends(place: Arena) -> Check:
    """All workers must stop when told to, and none of their predecessors may have left a process behind."""
    wrong = [("", text) for text in place.crew.stop_workers(STOP)]
    groups = {worker.pid: worker for p in place.crew.workers for worker in p.all}
    left: list[str] = []
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        left = []
        for process in psutil.process_iter():
            try:
                group = os.getpgid(process.pid)
                if group in groups and process.status() != psutil.STATUS_ZOMBIE:
                    left.append(
                        f"{' '.join(process.cmdline())} (pid {process.pid}) of {groups[group].log.name}"
                    )
            except (psutil.Error, ProcessLookupError):
                continue
        if not left:
            break
        time.sleep(0.2)
    count = sum(len(p.all) for p in place.crew.workers)
    seen = f"{count} workers started, {len(place.crew.workers)} stopped by TERM at the end"
    return Check(
        "workers stop when told to, and leave no process", seen, wrong + [("", text) for text in left]
    )


def _logs(place: Arena) -> Check:
    """Lines that tell of a bug rather than of a fault."""
    wrong, lines = [], 0
    for path in place.crew.logs():
        text = path.read_text(errors="replace").splitlines()
        lines += len(text)
        for number, line in enumerate(text, 1):
            if FORBIDDEN.search(line):
                after = " / ".join(
                    part.strip() for part in text[number : number + 40] if not part.startswith(" ")
                )
                wrong.append(("", f"{path.name}:{number}: {line} … {after[:300]}"))
            elif line.startswith("Traceback") and path.name.startswith("enqueuer"):
                wrong.append(("", f"{path.name}:{number}: {' / '.join(text[number:][-3:])}"))
    return Check("nothing unforeseen in the logs", f"{lines:,} lines", wrong)
