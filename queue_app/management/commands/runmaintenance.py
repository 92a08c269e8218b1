"""`manage.py runmaintenance`: the maintenance duties alone, for installations that keep them out of the workers."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from queue_app import __version__, checks, conf
from queue_app.dispatch import connection, workers
from queue_app.domain import ids
from queue_app.maintenance.leader import Leader
from queue_app.management.starting import check_stores
from queue_app.tasks import registry
from queue_app.worker import title


class Command(BaseCommand):
    help = (
        "Do the maintenance duties until told to stop, and run no jobs. Start two on different machines, and one"
        " stands by. Workers do the same duties unless they are started with --no-maintenance."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            conf.get()
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from None
        check_stores()
        checks.load_results()
        registry.autodiscover()
        stop = threading.Event()

        def told(signum: int, frame: FrameType | None) -> None:
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, told)
        leader_id = ids.new_text()
        title.set_title("queue_app maintenance")
        self._say(
            f"queue_app {__version__} maintenance {leader_id} (pid {os.getpid()}), redis {connection.safe_url()}"
        )
        found = workers.leader(connection.client())
        if found is not None:
            self._say(f"standing by: {found[0]} leads")
        Leader(leader_id, stop, self._changed).run()
        connections.close_all()
        self._say("stopped")

    def _changed(self, token: int) -> None:
        self._say(f"leading, token {token}" if token else "no longer leading")

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()
