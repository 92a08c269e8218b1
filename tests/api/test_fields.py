"""What each action of the API takes is declared: a schema can be made of its serializer, which decides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.urls import get_resolver
from rest_framework import serializers
from rest_framework.metadata import SimpleMetadata

from queue_app.api.bodies import ReadOnlySerializer, StrictSerializer
from queue_app.api.errors import not_found
from queue_app.api.fields import Strict
from tests.api.test_rights import ROUTES, address_of, client_of

pytestmark = pytest.mark.django_db

READS_A_BODY = ("post", "put", "patch", "delete")


def actions() -> Iterator[tuple[Any, str, str]]:
    """View, method and action of each route below the API's root."""
    (root,) = [one for one in get_resolver().url_patterns if str(one.pattern) == "api/v1/"]
    for pattern in root.url_patterns:  # type: ignore[union-attr]
        if pattern.callback is not not_found:
            for method, action in getattr(pattern.callback, "actions", {}).items():
                yield pattern.callback.cls, method, action  # type: ignore[union-attr]


TAKING = {
    f"{view.__name__}.{action}": view.bodies.get(action)
    for view, method, action in actions()
    if method in READS_A_BODY
}
ASKING = {
    f"{view.__name__}.{action}?": serializer
    for view, _, _ in actions()
    for action, serializer in view.queries.items()
}


def vague(serializer: Any, path: str = "") -> list[str]:
    """The fields of which their classes do not say what JSON they are, those within lists and objects too."""
    found = []
    for name, field in serializer.fields.items():
        inner = getattr(field, "child", field)
        if isinstance(inner, serializers.BaseSerializer):
            found += vague(inner, f"{path}{name}.")
        elif SimpleMetadata.label_lookup[field] == "field":
            found.append(path + name)
    return found


def test_each_action_that_reads_a_body_names_its_serializer() -> None:
    assert len(TAKING) > 10, "the routes were found"
    assert not [action for action, serializer in TAKING.items() if serializer is None]
    for view in {view for view, _, _ in actions()}:
        assert {*view.bodies, *view.queries} <= {*view.rights}, "no name that is no action"


@pytest.mark.parametrize("action", {**TAKING, **ASKING})
def test_a_schema_can_be_made_of_each_field(action: str) -> None:
    serializer: Any = {**TAKING, **ASKING}[action]
    assert issubclass(serializer, StrictSerializer)
    assert not vague(serializer())
    assert not [name for name, field in serializer().fields.items() if not field.help_text]


def test_a_field_without_a_type_would_be_found() -> None:
    class Inner(serializers.Serializer[Any]):
        one = Strict()
        two = serializers.CharField()

    class Outer(serializers.Serializer[Any]):
        three = Strict()
        many = Inner(many=True)

    assert vague(Outer()) == ["three", "many.one"]


def test_answers_that_are_no_rows_are_declared_too() -> None:
    declared = {view.serializer_class for view, _, _ in actions()}
    answers = [one for one in declared if issubclass(one, ReadOnlySerializer)]
    assert len(answers) == 3, "queues, stats and duties"
    for serializer in answers:
        fields = serializer().fields.values()
        assert not vague(serializer()) and all(field.read_only for field in fields)


@pytest.mark.parametrize(
    "route", [one for one in ROUTES if one[1] in READS_A_BODY], ids=lambda route: f"{route[1]} {route[0]}"
)
def test_the_serializer_that_is_named_is_the_one_that_decides(route: tuple[str, str], boss: User) -> None:
    address, client = address_of(route), client_of(boss)
    answer = getattr(client, route[1])(address, {**ROUTES[route][1], "nonsense": 1}, format="json")
    view = answer.renderer_context["view"]
    assert (answer.status_code, list(answer.json())) == (400, ["nonsense"])
    there_are = ", ".join(view.bodies[view.action]().fields)
    assert answer.json()["nonsense"][0].endswith(f"There are: {there_are}.")


def test_parameters_of_a_query_are_decided_by_theirs(boss: User) -> None:
    answer = client_of(boss).get("/api/v1/stats/?seconds=x&samples=y")
    assert answer.status_code == 400 and set(answer.json()) == {"seconds", "samples"}
    assert "There are: seconds, samples." in str(client_of(boss).get("/api/v1/stats/?second=5").json())
    address = address_of(("schedules/{schedule}/upcoming/", "get"))
    assert client_of(boss).get(f"{address}?cuont=5").json() == {
        "cuont": ["Unknown. Did you mean 'count'? There are: count."]
    }


def test_a_wrong_reason_is_named_along_with_all_else(boss: User) -> None:
    for route, body in (
        ("dead-letters/replay/", {"reason": 7, "limit": "5", "dry_run": True}),
        ("schedules/", {"reason": 7, "name": "n", "task": "a.b", "cron": "@daily", "args": {}}),
    ):
        answer = client_of(boss).post(f"/api/v1/{route}", body, format="json")
        assert answer.status_code == 400 and len(answer.json()) == 2 and "reason" in answer.json()
