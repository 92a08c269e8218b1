"""What pages and actions of the admin cost, in SQL statements and round trips to Redis, with few rows and with many.

The numbers are those of this commit. Others may be right; then they change here, and the commit says why.
"""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from queue_app.lifecycle import queue_defaults
from queue_app.models import AuditEvent, Queue, Schedule
from tests.admin.test_rights import ADDED, FIELDS, MODELS, PAGES
from tests.support.page_costs import MANY, Cost, Table, groups, measured
from tests.support.page_rows import Rows, add_rows, operator

pytestmark = pytest.mark.django_db(transaction=True)

#: Statements on SQLite and on PostgreSQL, round trips, page. Of each, the session, its user and the user's rights
#: are four statements. Actions are done to all rows that were added, so to one or to 30.
TABLE = Table("""
   5   5   0  attempt change GET
   6   6   0  attempt changelist GET
   6   6   0  attempt history GET
   5   5   0  auditevent change GET
   6   6   0  auditevent changelist GET
   6   6   0  auditevent history GET
   6   6   0  deadletter change GET
   6   6   0  deadletter changelist GET
   6   6   0  deadletter history GET
  19  17   2  deadletter replay_letters ACTION
  18  16   4  deadletter replay_letters ACTION, 30 rows  # trips as of the API's replay
  14  14   4  job cancel_jobs ACTION
  13  13  33  job cancel_jobs ACTION, 30 rows  # one for each queue, and those of the list
   7   7   2  job change GET
   6   6   3  job changelist GET
   6   6   0  job history GET
  21  19   5  job replay_jobs ACTION
  20  18   7  job replay_jobs ACTION, 30 rows  # as of the API's replay, and those of the list
   4   4   0  queue add GET
  12  12   0  queue add POST
   5   5   0  queue change GET
  13  13   0  queue change POST
   6   6   1  queue changelist GET
   5   5   0  queue delete GET
  13  13   0  queue delete POST
  14  14   1  queue delete_selected ACTION
 159 159   1  queue delete_selected ACTION, 30 rows  # each in its transaction, with its event
 161 161   1  queue delete_selected ACTION, 30 rows, Django 5.2
   6   6   0  queue history GET
  15  15   2  queue pause_queues ACTION
 247 247  31  queue pause_queues ACTION, 30 rows  # each in its transaction, with its event
  15  15   2  queue resume_queues ACTION
 247 247  31  queue resume_queues ACTION, 30 rows  # each in its transaction, with its event
   4   4   0  schedule add GET
  18  18   0  schedule add POST
   5   5   0  schedule change GET
  23  23   0  schedule change POST
   6   6   0  schedule changelist GET
   5   5   0  schedule delete GET
  13  13   0  schedule delete POST
  13  13   0  schedule delete_selected ACTION
 158 158   0  schedule delete_selected ACTION, 30 rows  # each in its transaction, with its event
 160 160   0  schedule delete_selected ACTION, 30 rows, Django 5.2
   6   6   0  schedule history GET
  14  14   0  schedule pause_schedules ACTION
 246 246   0  schedule pause_schedules ACTION, 30 rows  # each in its transaction, with its event
  14  14   0  schedule resume_schedules ACTION
 246 246   0  schedule resume_schedules ACTION, 30 rows  # each in its transaction, with its event
  12  12   1  schedule run_schedules ACTION
 186 186  30  schedule run_schedules ACTION, 30 rows  # each in its transaction, with its event
   5   5   0  worker change GET
   6   6   0  worker changelist GET
   5   5   2  worker duties GET
   6   6   0  worker history GET
""")

#: Pages of rows that are edited by hand, and what is sent to them.
EDITS = {
    "queue add": ADDED["queue"],
    "queue change": {"max_attempts": "3"},
    "queue delete": {"post": "yes"},
    "schedule add": ADDED["schedule"],
    "schedule change": FIELDS | {"missed": "once", "jitter": "7"},
    "schedule delete": {"post": "yes"},
}


def names() -> list[str]:
    """Three groups: pages that can be seen, pages that change something, and actions, which are sent to the list."""
    found = ["worker duties GET"]
    for model, own in admin.site._registry.items():
        if model._meta.app_label != "queue_app":
            continue
        name = str(model._meta.model_name)
        edited = MODELS[name][1] is not None
        pages = [page for page in PAGES if edited or page not in ("add", "delete")]
        found += [f"{name} {page} GET" for page in pages]
        found += [f"{name} {page} POST" for page in pages if edited and page in ("add", "change", "delete")]
        actions = [*own.actions, *(action for action, _ in admin.site.actions if edited)]
        found += [f"{name} {action} ACTION" for action in actions]
    return found


def test_every_page_has_a_line() -> None:
    assert TABLE.names == set(names())  # test_admin_rights holds MODELS and PAGES against the URL resolver


def chosen(model: str, action: str, rows: Rows) -> list[Any]:
    """The rows for an action: those to which it does something."""
    if action == "resume_queues":
        Queue.objects.filter(pk__in=[row.pk for row in rows.queues]).update(paused=True)
    if action == "resume_schedules":
        Schedule.objects.filter(pk__in=[row.pk for row in rows.schedules]).update(paused=True, next_at=None)
    return {"cancel_jobs": rows.waiting, "replay_jobs": rows.failed}.get(action) or rows.of(model)


def ask(user: Any, name: str, rows: Rows) -> Cost:
    model, page, method = name.split()
    client, data = Client(), EDITS.get(f"{model} {page}", {})
    client.force_login(user)
    if method == "ACTION":
        pks = [str(row.pk) for row in chosen(model, page, rows)]
        data = {"action": page, "_selected_action": pks, "index": 0, "post": "yes", "reason": "asked"}
        page, method = "changelist", "POST"
    elif "name" in data:
        data = data | {"name": f"new-{rows.events[0].pk}"}
    args = [rows.of(model)[0].pk] if page in ("change", "delete", "history") else []
    address, before = reverse(f"admin:queue_app_{model}_{page}", args=args), AuditEvent.objects.count()
    with measured() as costs:
        answer = client.post(address, data) if method == "POST" else client.get(address)
    assert answer.status_code == (302 if method == "POST" else 200), answer.content
    assert method == "GET" or AuditEvent.objects.count() > before, "a verb that did nothing is no measure"
    return costs[0]


@pytest.mark.parametrize("group", groups(names()), ids=lambda group: group[0] if len(group) == 1 else "reads")
def test_what_pages_cost(group: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        queue_defaults, "MAX_AGE_SECONDS", 3_600.0
    )  # else it is read again if this machine is slow
    user = operator()

    def costs(rows: Rows) -> dict[str, Cost]:
        return {name: ask(user, name, rows) for name in group}

    costs(add_rows(1))  # connections and scripts are there now
    TABLE.compare(costs(add_rows(1)), costs(add_rows(MANY)))
