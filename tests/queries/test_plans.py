"""What operators and machines can ask for is found without reading the history. PostgreSQL's plans, measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import combinations
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from queue_app import clock
from queue_app.admin import base
from queue_app.api import filters
from queue_app.api.selection import CRITERIA
from queue_app.lifecycle import operate
from queue_app.management.commands import replaydead
from queue_app.models import Attempt, DeadLetter, Job, Queue, Schedule, Worker
from queue_app.queries import queues as queue_figures
from queue_app.queries import search
from tests.support import history
from tests.support.history import ABSENT, OFTEN, ONCE, PAST, QUEUE, RARE, RARE_QUEUE, SELDOM
from tests.support.marks import on_postgresql_alone
from tests.support.plans import Plan, explained

pytestmark = [pytest.mark.django_db(transaction=True), on_postgresql_alone]

#: Jobs of the history, and buffers that no statement may exceed. Read whole, the small table has 700, the large 34,000.
SMALL, SMALL_LIMIT = 20_000, 120
LARGE, LARGE_LIMIT = 1_000_000, 2_000


def ago(**length: float) -> str:
    return (clock.now() - timedelta(**length)).isoformat()


#: What can be asked of each list, with values that are frequent, rare and absent.
TASKS = [OFTEN, SELDOM, RARE, ONCE, PAST, ABSENT]
QUEUES = [QUEUE, RARE_QUEUE, "absent"]
STATES = [
    "succeeded",
    "failed",
    "cancelled",
    "expired",
    "running",
    "queued",
    "scheduled",
    "retrying",
    "blocked",
]
FINGERPRINT = ["000000000000"]


def job_filters() -> dict[str, list[Any]]:
    return {
        "state": [*STATES, ["failed", "cancelled"], ["queued", "running"], ["succeeded", "expired"]],
        "queue": QUEUES,
        "task": TASKS,
        "backend": ["default", "other", "absent"],
        "created_after": [ago(minutes=5), ago(days=400)],
        "created_before": [ago(minutes=5), ago(hours=3), ago(days=400)],
    }


def letter_filters() -> dict[str, list[Any]]:
    return {
        "task": TASKS,
        "queue": QUEUES,
        "reason": ["exhausted", "poison", ["discarded", "poison"]],
        "fingerprint": FINGERPRINT,
        "replayed": ["no", "yes", "any"],
        "created_after": [ago(minutes=5), ago(days=400)],
        "created_before": [ago(hours=3), ago(days=400)],
    }


def admin_filters(model: type[Any]) -> dict[str, list[Any]]:
    search_for = {Job: "shop.area1", DeadLetter: "shop.rare", Attempt: "builtins.Val", Worker: "host-1"}
    found: dict[str, list[Any]] = {
        "q": [search_for[model], "no.such", "0199aaaa", str(Job.objects.first().pk)]
    }
    if model is Worker:
        return found | {"status": ["alive", "silent", "stuck", "stopped"]}
    if model is Attempt:
        states = ["succeeded", "failed", "timed_out", "lost", "snoozed", "cancelled"]
        return found | {"state__exact": states, "q": [*found["q"], "builtins.KeyError", "requests"]}
    found |= {"task": [OFTEN, RARE, PAST, ABSENT, "shop.rare.*"], "queue": QUEUES, "within": ["1h", "30d"]}
    if model is Job:
        return found | {"state__exact": STATES}
    return found | {
        "replayed": ["yes", "any"],
        "reason__exact": ["exhausted", "poison"],
        "fingerprint": FINGERPRINT,
    }


def combined(offered: dict[str, list[Any]], most: int) -> Iterator[dict[str, Any]]:
    """Each value alone, and with those of other filters, `most` together; of 0 only some of the values, alone."""
    yield {}
    few = {name: [values[0], values[-1]] for name, values in offered.items()}
    pairs = [(name, value) for name, values in (offered if most else few).items() for value in values]
    most = most or 1
    for count in range(1, most + 1):
        for chosen in combinations(pairs, count):
            if len({name for name, _ in chosen}) == count:
                yield dict(chosen)


class Asked:
    """Asks, and keeps for each question the plan that read the most."""

    def __init__(self, limit: int, size: int) -> None:
        self.limit, self.size = limit, size
        self.worst: dict[str, Plan] = {}
        user = User.objects.create_superuser("boss", password="secret")
        self.api, self.pages = APIClient(), Client()
        self.api.force_login(user)
        self.api.default_format = "json"
        self.pages.force_login(user)

    def note(self, question: str, call: Callable[[], Any]) -> Any:
        with explained() as plans:
            answer = call()
        if plans:
            self.worst[question] = max(
                [*plans, *filter(None, [self.worst.get(question)])], key=lambda p: p.buffers
            )
        return answer

    def list(self, place: str, query: dict[str, Any], pages: int = 3) -> None:
        """The first pages of a list of the API, and back again."""
        name = f"API {place} {query}"
        url: str | None = f"/api/v1/{place}/"
        given: dict[str, Any] | None = query | {"page_size": self.size}
        turns = ["next"] * (pages - 1) + ["previous"] * (pages - 1)
        for turn in [*turns, ""]:
            answer = self.note(name, lambda u=url, g=given: self.api.get(u, g))
            assert answer.status_code == 200, (query, answer.content)
            url, given = answer.json().get(turn), None
            if url is None:
                break

    def admin(self, model: type[Any], query: dict[str, Any]) -> None:
        """A list of the admin, and its last page; then what a search further back leads to."""
        page = reverse(f"admin:queue_app_{model._meta.model_name}_changelist")
        for more in ({}, {"p": "last"}):
            answer = self._page(model, page, query, more)
            seen = answer.context["cl"]
            if more == {} and getattr(seen, "searched_to", None) is not None:
                self._page(model, page, query, {base.BEFORE_VAR: str(seen.searched_to)})
            if seen.paginator.num_pages == 1:
                break

    def _page(self, model: type[Any], page: str, query: dict[str, Any], more: dict[str, Any]) -> Any:
        if more.get("p") == "last":
            more = {"p": self.pages.get(page, query).context["cl"].paginator.num_pages}
        name = f"admin {model._meta.model_name} {query}"
        answer = self.note(name, lambda: self.pages.get(page, query | more))
        assert answer.status_code == 200 and answer.context is not None, (query, answer)
        return answer

    def check(self) -> None:
        ranked = sorted(self.worst.items(), key=lambda item: -item[1].buffers)
        for question, plan in ranked:
            print(f"{plan.buffers:6,}  {question}  {' < '.join(plan.nodes)}")
        wrong = [f"{question}: {plan}" for question, plan in ranked if plan.buffers > self.limit]
        assert not wrong, f"{len(wrong)} of {len(ranked)} read more than {self.limit}:\n" + "\n".join(
            wrong[:20]
        )


def ask_everything(limit: int, size: int, most: int) -> None:
    """Whatever the faces offer: pages of `size` rows, with up to `most` filters together."""
    asked = Asked(limit, size)
    for query in combined(job_filters(), most):
        asked.list("jobs", query)
    for query in combined(letter_filters(), most):
        asked.list("dead-letters", query)
    for status in ["alive", "silent", "stuck", "stopped"]:
        asked.list("workers", {"status": status})
    for query in [{}, {"name": "x"}, {"task": ABSENT}, {"paused": "true"}]:
        asked.list("schedules", query)
    asked.note("API queues", lambda: asked.api.get("/api/v1/queues/"))
    asked.note("API queue", lambda: asked.api.get(f"/api/v1/queues/{QUEUE}/"))
    for model in (Job, Attempt, DeadLetter, Worker):
        for query in combined(admin_filters(model), most):
            asked.admin(model, query)
    worker = Job.objects.filter(state="running").first().worker_id
    asked.admin(Job, {"state__exact": "running", "worker_id__exact": worker})
    asked.admin(Job, {"worker_id__exact": worker})
    for model in (Queue, Schedule):
        asked.admin(model, {"q": "x"})
    for model in (Job, DeadLetter, Attempt, Worker):
        for row in (model.objects.order_by("pk").first(), model.objects.order_by("-pk").first()):
            url = reverse(f"admin:queue_app_{model._meta.model_name}_change", args=[row.pk])
            asked.note(f"admin page of a {model._meta.model_name}", lambda u=url: asked.pages.get(u))
    ask_verbs(asked, most)
    asked.check()


def ask_verbs(asked: Asked, most: int) -> None:
    """What is done to many: only the rows that it is about are looked for."""
    unfinished = [state for state in STATES if state not in ("succeeded", "failed", "cancelled", "expired")]
    some = [str(pk) for pk in Job.objects.filter(state="queued").values_list("pk", flat=True)[:50]]
    offered = {"state": unfinished, "queue": QUEUES, "task": TASKS, "ids": [some]}
    for body in combined(offered, most):
        for dry_run in (True, False) if body else ():
            data = {"limit": 10, "dry_run": dry_run} | body
            name = f"API cancel {body}"
            answer = asked.note(name, lambda d=data: asked.api.post("/api/v1/jobs/cancel/", d))
            assert answer.status_code == 200, (body, answer.content)
    asked.note("operate.cancel", lambda: operate.cancel(Job.objects.filter(task=RARE)))
    chosen = {"task": TASKS, "queue": QUEUES, "fingerprint": FINGERPRINT, "since": ["5m", "30d"]}
    for body in combined(chosen, most):
        for dry_run in (True, False):
            data = {"limit": 10, "dry_run": dry_run} | body
            name = f"replay {body}"
            answer = asked.note(name, lambda d=data: asked.api.post("/api/v1/dead-letters/replay/", d))
            assert answer.status_code == 200, (body, answer.content)
        asked.note(name, lambda b=body: call_command("replaydead", dry_run=True, limit="100", **b))
    letters = DeadLetter.objects.filter(task=OFTEN)
    asked.note("operate.replay", lambda: operate.replay(letters, limit=10))


def test_each_filter_is_among_them() -> None:
    """What is offered one day shall be asked here."""
    history.fill(2_000)
    assert set(job_filters()) == set(filters.JobFilter.base_filters)
    assert set(letter_filters()) == set(filters.DeadLetterFilter.base_filters)
    assert set(CRITERIA) == {"ids", "task", "queue", "state"}
    parser = replaydead.Command().create_parser("manage.py", "replaydead")
    own = {action.dest for action in parser._actions} & {
        "task",
        "queue",
        "fingerprint",
        "since",
        "limit",
        "dry_run",
    }
    assert len(own) == 6
    from django.contrib import admin

    for model in (Job, Attempt, DeadLetter, Worker):
        shown = {
            f"{one}__exact" if isinstance(one, str) else one.parameter_name
            for one in admin.site._registry[model].list_filter
        }
        assert shown | {"q"} == set(admin_filters(model)), model


def test_nothing_reads_a_small_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same on a fiftieth, with limits that are as much smaller."""
    history.fill(SMALL)
    monkeypatch.setattr(search, "MAX_DENSE_ROWS", 1_500)
    monkeypatch.setattr(search, "MAX_SCATTERED_ROWS", 100)
    monkeypatch.setattr(search, "MAX_WINDOW_ROWS", 20)
    monkeypatch.setattr(base, "COUNT_LIMIT", 500)
    monkeypatch.setattr(base.RecordAdmin, "list_per_page", 20)
    monkeypatch.setattr(queue_figures, "COUNT_LIMIT", 500)
    ask_everything(SMALL_LIMIT, 20, most=0)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_nothing_reads_a_million_rows() -> None:
    history.fill(LARGE)
    ask_everything(LARGE_LIMIT, 200, most=2)
