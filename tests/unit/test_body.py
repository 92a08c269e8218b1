"""What Redis carries of a job: what is put in comes out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_app import clock, serialization
from queue_app.dispatch.body import LANE, Delivery, encode
from queue_app.lifecycle import dispatching
from queue_app.models import Job
from tests.unit.test_serialization import same, text, values

seconds = st.floats(0, 2**33).map(lambda at: round(at, 6))
times = st.none() | seconds
fields = st.fixed_dictionaries(
    {
        "task": text.filter(bool),
        "number": st.integers(1, 10**9),
        "failures": st.integers(0, 1000),
        "deaths": st.integers(0, 1000),
        "max_attempts": st.integers(1, 1000),
        "priority": st.integers(-100, 100),
        "enqueued_at": seconds,
        "run_after": times,
        "started_at": times,
        "timeout": st.none() | st.floats(0.01, 1e9),
        "backend": text,
        "lane": text.filter(lambda lane: lane and "|" not in lane),
        "suspect": st.booleans(),
    }
)


@given(fields, st.lists(values, max_size=3), st.dictionaries(text, values, max_size=3))
def test_a_body_comes_back_as_it_was(given_: dict[str, Any], args: list[Any], kwargs: dict[str, Any]) -> None:
    payload = serialization.dump_arguments(args, kwargs, 10**9)
    delivery = Delivery("mail", "some-id", encode(**given_, payload=payload, limit=len(payload)), 7.5)
    assert {name: getattr(delivery, name) for name in given_} == given_
    assert same([delivery.args, delivery.kwargs], [args, kwargs])
    assert (delivery.queue, delivery.id, delivery.claimed_at) == ("mail", "some-id", 7.5)
    assert list(delivery.history) == []


@given(st.integers(0, 200), st.integers(0, 200))
def test_large_arguments_stay_in_the_record(size: int, limit: int) -> None:
    payload = serialization.dump_arguments(("x" * size,), {}, 10**9)
    raw = encode(**_plain(), payload=payload, limit=limit)
    delivery = Delivery("mail", "some-id", raw, 0)
    assert (delivery.args is None) is (len(payload) > limit)
    assert ("x" * 150 in raw) is (size >= 150 and len(payload) <= limit)
    assert delivery.task == "tests.tasks.noop"


def _plain() -> dict[str, Any]:
    return {
        "task": "tests.tasks.noop",
        "number": 1,
        "failures": 0,
        "deaths": 0,
        "max_attempts": 4,
        "priority": -50,
        "enqueued_at": 1_800_000_000.000001,
        "run_after": None,
        "started_at": None,
        "timeout": None,
        "backend": "",
    }


def test_a_suspect_is_said_in_the_fewest_words() -> None:
    plain, suspect = (
        encode(**_plain(), payload="[[],{}]", limit=100, suspect=value) for value in (False, True)
    )
    assert suspect == plain.replace('""][', '"",true][')


@pytest.mark.parametrize("more", ["1", "false", "null", "[true", '"of the next release"', "true,true"])
def test_a_head_of_another_release_is_not_guessed_at(more: str) -> None:
    raw = encode(**_plain(), payload="[[],{}]", limit=100).replace('""][', f'"",{more}][')
    assert Delivery("mail", "some-id", raw, 0).unreadable


def test_the_scripts_find_priority_and_lane_in_front() -> None:
    assert encode(**_plain(), payload="[[],{}]", limit=100).startswith(f"-50:{LANE}|[")


def test_the_next_delivery_carries_on_even_if_the_task_changed_its_arguments() -> None:
    first = Delivery("mail", "some-id", encode(**_plain(), payload='[[[1]],{"a":{}}]', limit=100), 5.0)
    first.args[0].append(2)  # type: ignore[index]
    first.kwargs["b"] = 1
    entry = dispatching.entry_of_next(first, failures=1, deaths=2, run_at=9.25, started_at=6.5)
    second = Delivery("mail", entry[0], entry[2], 10.0)
    assert entry[:2] == ("some-id", 9.25)
    assert (second.number, second.failures, second.deaths) == (2, 1, 2)
    assert (second.run_after, second.started_at) == (9.25, 6.5)
    assert (second.args, second.kwargs) == ([[1]], {"a": {}})
    # What the first attempt says stays: when the job was first started, and its options.
    third = Delivery(
        "mail",
        "some-id",
        dispatching.entry_of_next(second, failures=2, deaths=2, run_at=None, started_at=20.0)[2],
        0,
    )
    assert (third.number, third.started_at, third.run_after) == (3, 6.5, 9.25)
    assert (third.task, third.priority, third.max_attempts) == ("tests.tasks.noop", -50, 4)
    assert third.enqueued_at == 1_800_000_000.000001


def test_a_row_and_a_delivery_say_the_same() -> None:
    at = clock.from_seconds(1_800_000_000.000001)
    row = Job(
        task="tests.tasks.noop",
        queue="mail",
        priority=7,
        payload='[[1],{"x":"é"}]',
        attempt=2,
        failures=1,
        deaths=1,
        suspect=True,
        max_attempts=5,
        timeout=2.5,
        backend="default",
        enqueued_at=at,
        started_at=at,
        run_after=at,
    )
    entry = dispatching.entry_of_row(row)
    delivery = Delivery("mail", entry[0], entry[2], 0)
    assert entry[:2] == (str(row.pk), at.timestamp())
    assert (delivery.number, delivery.failures, delivery.deaths, delivery.max_attempts) == (3, 1, 1, 5)
    assert delivery.suspect is True
    assert (delivery.args, delivery.kwargs) == ([1], {"x": "é"})
    assert (delivery.priority, delivery.timeout, delivery.backend) == (7, 2.5, "default")
    assert clock.from_seconds(delivery.enqueued_at) == at
