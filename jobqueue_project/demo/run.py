"""A run of the demo, from an empty database to the verdict."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from django.core.management import call_command
from django.db import connections
from rich.console import Console

from jobqueue_project.demo import checks, material, plan, report
from jobqueue_project.demo.folder import DemoFolder
from jobqueue_project.demo.mailserver import MailServer
from jobqueue_project.demo.plan import Plan
from jobqueue_project.demo.record import Record
from jobqueue_project.demo.webserver import WebServer
from jobqueue_project.processes import ManagedProcess
from queue_app.dispatch import connection as redis_connection
from queue_app.domain.states import DeadReason
from queue_app.models import DeadLetter, Job
from queue_app.operations import dead_letters
from queue_app.operations.actor import Actor

WORKER_OPTIONS = ("--queues", plan.QUEUES, "--processes", "2", "--slots", "2", "--grace", "5")
#: Replays, at most: what failed by bad luck may do so again.
ROUNDS = 5


class DemoFailed(Exception):
    """Something is off; the message says what."""


def run(folder: DemoFolder, timeout: float, screen: Console) -> None:
    """Run the demo in its folder.

    Args:
        timeout: seconds until all jobs must be final.

    Raises:
        DemoFailed: a count is off.
        TimeUp: the jobs were not final in time.
        ProcessFailed: the worker did not start, or ended.
    """
    say = screen.print
    with contextlib.ExitStack() as stack:
        stack.callback(_leave)
        say(f"  stores    {_stores()}")
        mail, web = stack.enter_context(MailServer()), stack.enter_context(WebServer())
        say(f"  servers   SMTP on port {mail.port}, HTTP on port {web.port}")
        things = material.make(folder.media)
        say(f"  material  {things}")
        worker = _start_worker(folder, mail, web, stack)
        say(f"  worker    runworker {' '.join(WORKER_OPTIONS)} (process {worker.pid})\n")

        began = time.monotonic()
        jobs = Plan()
        with report.Watcher(screen, began + timeout, worker.check) as watcher:
            jobs.enqueued = watcher.look
            plan.enqueue(jobs, things, folder.media, web)
            total = len(jobs.everything)
            say(
                f"  {total:,} jobs enqueued in {time.monotonic() - began:.1f} s; the worker has begun meanwhile"
            )
            watcher.until_final(total)
            replayed = _replay(total, watcher, mail, web, screen)
        took = time.monotonic() - began
        code = worker.stop()

        record = Record(jobs.everything, {job_id: at.timestamp() for job_id, at in jobs.delayed.items()})
        say()
        say(report.table(record))
        say()
        world = checks.World(jobs, record, replayed, things, folder.media, mail, web)
        problems = report.findings(screen, checks.run(world))
        if code:
            problems.append(f"the worker ended with {code}")
        if problems:
            raise DemoFailed(f"{len(problems):,} things are not as they should be, such as: {problems[0]}")
        say(f"\n  All {total:,} jobs are final and accounted for, in {took:.1f} s.", style="bold green")


def _stores() -> str:
    """Migrate the database, start Redis; says which they are."""
    call_command("migrate", verbosity=0, interactive=False)
    if Job.objects.exists():
        raise DemoFailed("The database holds jobs already: the demo needs one of its own.")
    database = connections["default"]
    name = Path(database.settings_dict["NAME"]).name
    redis = redis_connection.client().info("server")
    return f"{database.display_name} ({name}), Redis {redis['redis_version']} (process {redis['process_id']})"


def _replay(
    total: int, watcher: report.Watcher, mail: MailServer, web: WebServer, screen: Console
) -> list[str]:
    """Repair the servers and replay what died for them; returns the ids of the jobs replayed."""
    mail.empty_mailboxes()
    web.repair()
    replayed: list[str] = []
    for _ in range(ROUNDS):
        dead = DeadLetter.objects.filter(replayed_at__isnull=True, reason=DeadReason.EXHAUSTED)
        count = dead.count()
        if not count:
            break
        screen.print(f"  mailboxes emptied, web server repaired: {count} dead letters are replayed")
        answer = dead_letters.replay_matching(
            Actor.command("manage.py demo"), dead, {"reason": DeadReason.EXHAUSTED}
        )
        replayed += answer.done
        if len(answer.done) != count:
            raise DemoFailed(f"of {count} dead letters {len(answer.done)} were replayed: {answer.refused}")
        watcher.until_final(total)
    return replayed


def _start_worker(
    folder: DemoFolder, mail: MailServer, web: WebServer, stack: contextlib.ExitStack
) -> ManagedProcess:
    log = stack.enter_context(open(folder.log, "w", encoding="utf-8", buffering=1))  # noqa: SIM115 - the stack closes it

    def heard(line: str) -> None:
        with contextlib.suppress(ValueError):  # closed: the very last words of a worker that was killed
            log.write(line + "\n")

    environment = os.environ | {"EMAIL_URL": mail.url, "SCRAPE_ALLOWED_HOSTS": web.address}
    worker = ManagedProcess("worker", ["manage.py", "runworker", *WORKER_OPTIONS], environment, heard)
    stack.callback(worker.stop)
    worker.start("ready")
    return worker


def _leave() -> None:
    connections.close_all()
    redis_connection.forget()
