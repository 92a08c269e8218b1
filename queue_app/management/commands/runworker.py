"""`manage.py runworker`: the command line of a worker, and nothing else."""

from __future__ import annotations

import argparse
import os
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections

from queue_app import __version__, checks, conf
from queue_app.dispatch import connection
from queue_app.domain import ids
from queue_app.exceptions import InvalidOption
from queue_app.management.starting import check_stores, warn_of_rights
from queue_app.tasks import registry
from queue_app.worker.config import QueueChoice, WorkerConfig


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 10000")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


class Command(BaseCommand):
    help = (
        "Run jobs until told to stop. TERM or Ctrl-C drains, a second one hurries, HUP replaces the children."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--queues",
            default="default",
            help="queues to serve: 'a,b' in this order, or 'a:6,b:1' with weights (default: default)",
        )
        parser.add_argument("--processes", type=_at_least_one, default=1, help="children (default: 1)")
        parser.add_argument(
            "--slots", type=_at_least_one, default=1, help="jobs each child runs at once (default: 1)"
        )
        parser.add_argument("--max-jobs", type=_at_least_one, help="replace a child after so many jobs")
        parser.add_argument("--max-memory", type=_at_least_one, help="replace a child above so many MB")
        parser.add_argument("--grace", type=_seconds, help="seconds that running jobs get when told to stop")
        parser.add_argument(
            "--no-maintenance",
            action="store_true",
            help="leave the maintenance duties to other workers, or to runmaintenance",
        )
        parser.add_argument(
            "--drain", action="store_true", help="run every due job, one at a time in order, then exit"
        )
        parser.add_argument(
            "--backend", help="alias in TASKS whose jobs are meant; checked, its QUEUES are the default"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        config = self._config(options)
        self._check_tasks()
        check_stores()
        warn_of_rights()
        checks.load_results()
        known = registry.autodiscover()
        if options["drain"]:
            from queue_app.worker.drain import drain

            count = drain(config)
            if options["verbosity"] > 0:
                self.stdout.write(f"drained {config.queues}: {count} jobs run")
            return
        from queue_app.worker.supervisor import Supervisor

        self._say(
            f"queue_app {__version__} worker {config.worker_id} (pid {os.getpid()}): queues {config.queues},"
            f" {config.processes} x {config.slots} slots, {len(known)} tasks known, redis {connection.safe_url()}"
        )
        connections.close_all()  # nothing that was opened here may be shared with children
        connection.forget()
        code = Supervisor(config, self._say).run()
        if code:
            raise SystemExit(code)

    def _config(self, options: dict[str, Any]) -> WorkerConfig:
        try:
            grace = options["grace"]
            return WorkerConfig(
                worker_id=ids.new_text(),
                queues=QueueChoice.parse(self._queues(options)),
                processes=options["processes"],
                slots=options["slots"],
                max_jobs=options["max_jobs"],
                max_memory=options["max_memory"],
                grace=conf.get().GRACE if grace is None else grace,
                maintenance=conf.get().MAINTENANCE and not options["no_maintenance"],
            )
        except (InvalidOption, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from None

    @staticmethod
    def _queues(options: dict[str, Any]) -> str:
        alias = options["backend"]
        if alias is None:
            return str(options["queues"])
        try:
            from queue_app.tasks_api.compat import InvalidTaskBackend, task_backends
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from None
        try:
            backend = task_backends[alias]
        except InvalidTaskBackend:
            hint = conf.did_you_mean(alias, task_backends.settings)
            raise CommandError(f"--backend: TASKS has no backend {alias!r}.{hint}") from None
        from queue_app.backend import JobQueueBackend

        if not isinstance(backend, JobQueueBackend):
            raise CommandError(f"--backend: {alias!r} is a {type(backend).__name__}, not a JobQueueBackend.")
        if options["queues"] == "default" and backend.queues:
            return ",".join(sorted(backend.queues))
        return str(options["queues"])

    @staticmethod
    def _check_tasks() -> None:
        """TASKS, as far as it names our backend."""
        for alias, params in (getattr(settings, "TASKS", None) or {}).items():
            if isinstance(params, dict) and params.get("BACKEND") == checks.BACKEND:
                try:
                    from queue_app.tasks_api.compat import task_backends
                except ImproperlyConfigured as error:
                    raise CommandError(str(error)) from None
                for message in task_backends[alias].check():
                    if message.is_serious():
                        raise CommandError(f"{message.msg} {message.hint or ''}".strip())

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()
