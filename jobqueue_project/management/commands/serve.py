"""`manage.py serve`: web server, worker and, where it is embedded, Redis, in one terminal."""

from __future__ import annotations

import argparse
import contextlib
import os
import threading
import time
from functools import partial
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connections

from jobqueue_project import local
from jobqueue_project.processes import LOOK, Interrupted, ManagedProcess, ProcessFailed, interruptible
from queue_app.dispatch import connection as redis_connection
from queue_app.exceptions import InvalidOption
from queue_app.worker.config import QueueChoice

#: The queues of the demo tasks; `default` is where Django's own Tasks API puts jobs.
QUEUES = "mail:4,web:4,imports:4,images:2,text:2,default:2"


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: use a whole number from 1 to 65535")
    return int(text)


class Command(BaseCommand):
    help = (
        "Run a web server, a worker and (with REDIS_URL=embedded://) Redis in this terminal, with a login for the"
        " admin. For one's own machine: it listens on 127.0.0.1 alone, with DEBUG on. Ctrl-C ends it all."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=_port, default=8000, help="of the web server (default: 8000)")
        parser.add_argument(
            "--queues", default=QUEUES, help="queues of the worker (default: those of the demo tasks)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        port = options["port"]
        try:
            QueueChoice.parse(options["queues"])
        except InvalidOption as error:
            raise CommandError(str(error)) from None
        if not local.port_is_free(port):
            raise CommandError(f"Port {port} is taken, or not ours to use: give another one with --port.")
        self._lock = threading.Lock()
        with interruptible():
            try:
                self._serve(port, options["queues"])
            except Interrupted:
                self._say("serve", "everything is stopped")
            except ProcessFailed as error:
                raise CommandError(str(error)) from None
            except redis_connection.Unavailable as error:
                raise CommandError(redis_connection.explain(error)) from None
            except DatabaseError as error:
                raise CommandError(
                    f"The database cannot be used ({str(error).strip()}); check DATABASE_URL."
                ) from None

    def _serve(self, port: int, queues: str) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(connections.close_all)
            call_command("migrate", verbosity=0, interactive=False)
            redis_connection.client().ping()  # an embedded Redis lives as long as somebody uses it: this process does
            login = stack.enter_context(local.fresh_login())
            environment = os.environ | {"DEBUG": "true"}
            if not environment.get("EMAIL_URL") and not environment.get("EMAIL_HOST"):
                environment["EMAIL_URL"] = "consolemail://"  # mails of tasks are shown here
            processes = []
            for name, arguments, ready in (
                ("worker", ["manage.py", "runworker", "--queues", queues, "--slots", "4"], "ready"),
                ("web", _gunicorn(port), "Listening at"),
            ):
                process = ManagedProcess(name, arguments, environment, partial(self._say, name))
                stack.callback(process.stop)
                process.start(ready)
                processes.append(process)
            while not local.answers(port):  # it listens before it has loaded the project
                process.check()
                time.sleep(LOOK)
            self._welcome(port, login)
            while True:
                for process in processes:
                    process.check()
                time.sleep(LOOK * 10)

    def _welcome(self, port: int, login: tuple[str, str]) -> None:
        lines = [f"{name:<10} {url}" for name, url in local.pages(port)]
        lines += [f"{'login':<10} {login[0]}  {login[1]}   (for this run)", "Ctrl-C ends it all."]
        for line in lines:
            self._say("serve", line)

    def _say(self, name: str, line: str) -> None:
        with self._lock:  # lines of several processes, each whole
            self.stdout.write(f"{name:<6} | {line}")
            self.stdout.flush()


def _gunicorn(port: int) -> list[str]:
    arguments = ["--bind", f"{local.HOST}:{port}", "--worker-class", "gthread", "--threads", "4"]
    return [
        "-m",
        "gunicorn",
        *arguments,
        "--graceful-timeout",
        "5",
        "--no-control-socket",
        "jobqueue_project.wsgi",
    ]
