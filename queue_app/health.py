"""Whether the process is up (`live`), and whether jobs can be taken and run (`ready`): for load balancers and compose.

    path("health/", include("queue_app.health"))      gives health/live/ and health/ready/

Open to everybody, so the answers are the words `ok` and `failing` alone; the log says why.
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
QUIET = 60.0

_logged: dict[str, float] = {}
#: Databases whose migrations were found applied: reading them all is not for every request.
_migrated: set[tuple[str, str]] = set()


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
    alias = write_alias()
    known = (alias, str(connections[alias].settings_dict["NAME"]))
    if known not in _migrated:
        executor = MigrationExecutor(connections[alias])
        if executor.migration_plan(executor.loader.graph.leaf_nodes("queue_app")):
            return False
        _migrated.add(known)
    return True


def workers() -> bool:
    """Whether at least one worker is healthy: it lives, and could claim recently."""
    return Worker.objects.using(write_alias()).with_status("alive").exists()


def maintenance() -> bool:
    """Whether every duty of the leader has been done lately."""
    return all(line.status != "late" for line in duties.now(REDIS_TIMEOUT).lines)


PARTS: dict[str, Callable[[], bool]] = {
    "database": database,
    "redis": redis,
    "migrations": migrations,
    "workers": workers,
}
#: Said as well, but no reason to stop sending requests here: what these lack, another process makes up for later.
DETAILS: dict[str, Callable[[], bool]] = {"maintenance": maintenance}


def _holds(name: str, part: Callable[[], bool]) -> bool:
    try:
        return part()
    except Exception as error:  # whatever it is, this part is failing
        if monotonic() - _logged.get(name, -QUIET) >= QUIET:
            _logged[name] = monotonic()
            logger.warning("Health: %s is failing: %s", name, stores.said(error))
        return False


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
    """200 if every part is `ok`, else 503; the parts by name. Details are said, and do not count."""
    found = {name: "ok" if _holds(name, part) else "failing" for name, part in (PARTS | DETAILS).items()}
    good = all(found[name] == "ok" for name in PARTS)
    answer = JsonResponse({"status": "ok" if good else "failing", **found}, status=200 if good else 503)
    answer._has_been_logged = True  # type: ignore[attr-defined]  # or Django would log an error, and mail the admins, at every probe
    return answer


app_name = "queue_app_health"
urlpatterns = [path("live/", live, name="live"), path("ready/", ready, name="ready")]
