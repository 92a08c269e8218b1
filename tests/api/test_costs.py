"""What routes of the API cost, in SQL statements and round trips to Redis, with few rows and with many.

The numbers are those of this commit. Others may be right; then they change here, and the commit says why.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from queue_app import clock
from queue_app.lifecycle import queue_defaults
from queue_app.models import AuditEvent, Job, Queue, Schedule
from tests.api.test_rights import ROUTES, V1, client_of
from tests.support.page_costs import MANY, Cost, Table, groups, measured
from tests.support.page_rows import Rows, add_rows, operator

pytestmark = pytest.mark.django_db(transaction=True)

#: Statements on SQLite and on PostgreSQL, round trips, route. Of each, the session, its user and the user's rights
#: are four statements.
TABLE = Table("""
   2   2   0  / GET
   5   5   0  audit/ GET
   5   5   0  audit/{event}/ GET
   5   5   0  dead-letters/ GET
  16  14   2  dead-letters/replay/ POST
  16  14   4  dead-letters/replay/ POST, 30 rows  # find and restore: a trip for the first queue, one for all others
   6   6   0  dead-letters/{letter}/ GET
  20  18   2  dead-letters/{letter}/requeue/ POST
   4   4   2  duties/ GET
   5   5   3  jobs/ GET
   6   6   3  jobs/ POST
   8   6   3  jobs/ POST, Django 5.2
  15  15   1  jobs/cancel/ POST
   6   6   2  jobs/{job}/ GET
  13  13   1  jobs/{waiting}/cancel/ POST
   9   9   2  queues/ GET
   8   8   1  queues/{queue}/ GET
  16  16   2  queues/{queue}/pause/ POST
  16  16   2  queues/{queue}/resume/ POST
   5   5   0  schedules/ GET
  14  14   0  schedules/ POST
  10  10   0  schedules/{schedule}/ DELETE
   5   5   0  schedules/{schedule}/ GET
  14  14   0  schedules/{schedule}/ PATCH
  13  13   0  schedules/{schedule}/pause/ POST
  13  13   0  schedules/{schedule}/resume/ POST
  11  11   1  schedules/{schedule}/run/ POST
   5   5   0  schedules/{schedule}/upcoming/ GET
   4   4   1  stats/ GET
   5   5   0  workers/ GET
   5   5   0  workers/{worker}/ GET
""")

NAMES = {
    f"{address or '/'} {method.upper()}": (address, method) for address, method in [*ROUTES, ("", "get")]
}


def test_every_route_has_a_line() -> None:
    assert TABLE.names == set(NAMES)  # test_api_rights holds ROUTES against those of the URL resolver


def ask(user: Any, route: tuple[str, str], rows: Rows) -> Cost:
    address, method = route
    things = {
        "job": rows.tried.pk,
        "waiting": rows.waiting[0].pk,
        "letter": rows.failed[0].dead_letters.get().pk,
        "queue": rows.queues[0].name,
        "schedule": rows.schedules[0].pk,
        "worker": rows.workers[0].pk,
        "event": rows.events[0].pk,
    }
    body = ROUTES[route][1] if address else None
    if body and "name" in body:
        body = body | {"name": f"new {rows.events[0].pk}"}
    paused = address.endswith("/resume/")  # a verb that changes nothing is no measure
    Queue.objects.update(paused=paused)
    Schedule.objects.update(paused=paused, next_at=None if paused else clock.now() + timedelta(hours=1))
    client, before = client_of(user), (AuditEvent.objects.count(), Job.objects.count())
    with measured() as costs:
        answer = getattr(client, method)(V1 + address.format(**things), body, format="json")
    assert answer.status_code in (200, 201, 202, 204), answer.content
    after = AuditEvent.objects.count(), Job.objects.count()
    assert method == "get" or after != before, "a verb that did nothing is no measure"
    return costs[0]


@pytest.mark.parametrize("group", groups(NAMES), ids=lambda group: group[0] if len(group) == 1 else "reads")
def test_what_routes_cost(group: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        queue_defaults, "MAX_AGE_SECONDS", 3_600.0
    )  # else it is read again if this machine is slow
    user = operator()

    def costs(rows: Rows) -> dict[str, Cost]:
        return {name: ask(user, NAMES[name], rows) for name in group}

    costs(add_rows(1))  # connections and scripts are there now
    TABLE.compare(costs(add_rows(1)), costs(add_rows(MANY)))
