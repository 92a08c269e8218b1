"""`manage.py demo`: the command line of the demo, and its environment."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from jobqueue_project.demo.folder import DemoFolder, FolderUnusable
from jobqueue_project.processes import Interrupted, ProcessFailed, interruptible


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


class Command(BaseCommand):
    help = (
        "Send thousands of real jobs through a real worker, in a database and a Redis of their own, and check every"
        " count. Takes well under a minute; exits with 1 if anything is off."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--folder",
            type=Path,
            default=settings.BASE_DIR / "var" / "demo",
            help="where it keeps what it makes",
        )
        parser.add_argument(
            "--database", metavar="URL", help="an empty database to use instead of its own SQLite file"
        )
        parser.add_argument("--redis", metavar="URL", help="a Redis to use instead of its own")
        parser.add_argument(
            "--timeout",
            type=_seconds,
            default=90.0,
            metavar="SECONDS",
            help="until all jobs must be final (default: 90)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        folder = DemoFolder(options["folder"])
        if not folder.is_active():
            # Settings are read once and early: the same command again, in an environment that leads to the folder.
            environment = os.environ | folder.environment(options["database"], options["redis"])
            self.stdout.flush()
            os.execve(sys.executable, [sys.executable, *sys.argv], environment)
        with interruptible():
            try:
                self._run(folder, options["timeout"])
            except Interrupted as told:
                self.stderr.write(
                    f"\ninterrupted ({signal.Signals(told.signum).name}); everything is stopped"
                )
                sys.exit(128 + told.signum)

    def _run(self, folder: DemoFolder, timeout: float) -> None:
        from jobqueue_project.demo import report
        from jobqueue_project.demo.run import DemoFailed, run
        from queue_app.dispatch import connection

        screen = report.console()
        try:
            folder.claim()
            screen.print("[bold]Demo[/bold]")
            run(folder, timeout, screen)
        except FolderUnusable as error:
            raise CommandError(str(error)) from None
        except connection.Unavailable as error:
            raise CommandError(connection.explain(error)) from None
        except DatabaseError as error:
            reason = " ".join(str(error).split())
            raise CommandError(f"The demo’s database cannot be used ({reason}); check --database.") from None
        except (DemoFailed, ProcessFailed, report.TimeUp) as error:
            raise CommandError(f"The demo failed: {error}\nThe worker’s output is in {folder.log}.") from None
        screen.print("\nHow to go on")
        screen.print("  make serve   web server and worker in one terminal, with a login for the admin")
        screen.print(f"  What the worker printed is in {folder.log}", soft_wrap=True)
