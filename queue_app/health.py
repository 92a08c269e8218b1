"""Whether the process is up (`live`), and whether jobs can be taken and run (`ready`): for load balancers and compose.

    path("health/", include("queue_app.health"))      gives health/live/ and health/ready/

Everyone may ask, so an answer has the words `ok` and `failing` alone. The log says why a part fails.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

from django.db import connections, transaction
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from queue_app.models import Worker
from queue_app.models.sql import write_alias
from queue_app.queries import duties, stores

logger = logging.getLogger(__name__)

#: Seconds that Redis may take to answer.
REDIS_TIMEOUT = 1.0
#: Seconds between two log lines about the same part.
LOG_INTERVAL_SECONDS = 60.0


class Probe:
    """Asks the parts of the system, for one process."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget what was asked and logged."""
        self._logged_at: dict[str, float] = {}  # part → when its failure was last logged (monotonic)
        self._migrated: set[tuple[str, str]] = set()  # alias and name of databases without open migrations

    def is_ok(self, name: str, part: Callable[[], bool]) -> bool:
        """Whether a part answers, and says yes. An error is logged, at most once in `LOG_INTERVAL_SECONDS`.

        Args:
            name: of the part, for the log.
        """
        try:
            return part()
        except Exception as error:
            if monotonic() - self._logged_at.get(name, -LOG_INTERVAL_SECONDS) >= LOG_INTERVAL_SECONDS:
                self._logged_at[name] = monotonic()
                logger.warning("Health: %s is failing: %s", name, stores.said(error))
            return False

    def is_migrated(self) -> bool:
        """Whether all migrations of queue_app, and those that they need, are applied. Once they are, the files of the
        migrations are not read again."""
        alias = write_alias()
        database = (alias, str(connections[alias].settings_dict["NAME"]))
        if database not in self._migrated:
            executor = MigrationExecutor(connections[alias])
            if executor.migration_plan(executor.loader.graph.leaf_nodes("queue_app")):
                return False
            self._migrated.add(database)
        return True


#: The one of this process.
probe = Probe()


def database() -> bool:
    """Whether the database that holds the jobs answers."""
    with connections[write_alias()].cursor() as cursor:
        cursor.execute("SELECT 1")
        return cursor.fetchone() is not None


def redis() -> bool:
    """Whether Redis answers."""
    return stores.redis_answers(REDIS_TIMEOUT)


def migrations() -> bool:
    """Whether all migrations of queue_app, and those that they need, are applied."""
    return probe.is_migrated()


def workers() -> bool:
    """Whether at least one worker is healthy: it lives, and could claim recently."""
    return Worker.objects.using(write_alias()).with_status("alive").exists()


def maintenance() -> bool:
    """Whether every duty of the leader has succeeded lately."""
    return all(line.status != "late" for line in duties.now(REDIS_TIMEOUT).lines)


PARTS: dict[str, Callable[[], bool]] = {
    "database": database,
    "redis": redis,
    "migrations": migrations,
    "workers": workers,
}
#: Parts that are shown and do not count: requests can be served without them, and another process repairs them.
DETAILS: dict[str, Callable[[], bool]] = {"maintenance": maintenance}


@never_cache
@require_safe
@transaction.non_atomic_requests
def live(request: HttpRequest) -> JsonResponse:
    """200 while this process answers; no store is asked."""
    return JsonResponse({"status": "ok"})


@never_cache
@require_safe
@transaction.non_atomic_requests
def ready(request: HttpRequest) -> JsonResponse:
    """200 if every part is `ok`, else 503, with each part by name. `DETAILS` are shown and do not count."""
    found = {name: "ok" if probe.is_ok(name, part) else "failing" for name, part in (PARTS | DETAILS).items()}
    good = all(found[name] == "ok" for name in PARTS)
    answer = JsonResponse({"status": "ok" if good else "failing", **found}, status=200 if good else 503)
    # Without this, Django logs an error and mails the admins at every failing request.
    answer._has_been_logged = True  # type: ignore[attr-defined]
    return answer


app_name = "queue_app_health"
urlpatterns = [path("live/", live, name="live"), path("ready/", ready, name="ready")]
