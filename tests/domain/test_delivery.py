"""What Redis carries of a job: what is put in comes out."""

from __future__ import annotations

import enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_app import clock
from queue_app.domain import serialization
from queue_app.domain.delivery import Delivery, encode
from queue_app.domain.envelope import LANE, META_LIMIT, dump_meta
from queue_app.exceptions import InvalidOption
from queue_app.lifecycle.entries import entry_of_next, entry_of_row
from queue_app.models import Job
from tests.domain.test_serialization import same, text, values
from tests.support.bodies import body

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
        "meta": st.none() | st.dictionaries(text, values, min_size=1, max_size=2).map(serialization.dump),
    }
)


@given(fields, st.lists(values, max_size=3), st.dictionaries(text, values, max_size=3))
def test_a_body_comes_back_as_it_was(given_: dict[str, Any], args: list[Any], kwargs: dict[str, Any]) -> None:
    payload = serialization.dump_arguments(args, kwargs, 10**9)
    delivery = Delivery("mail", "some-id", body(payload, len(payload), **given_), 7.5)
    assert {name: getattr(delivery, name) for name in given_} == given_
    assert same([delivery.args, delivery.kwargs], [args, kwargs])
    assert (delivery.queue, delivery.id, delivery.claimed_at) == ("mail", "some-id", 7.5)
    assert list(delivery.history) == []


@given(st.integers(0, 200), st.integers(0, 200))
def test_large_arguments_stay_in_the_record(size: int, limit: int) -> None:
    payload = serialization.dump_arguments(("x" * size,), {}, 10**9)
    raw = body(payload, limit)
    delivery = Delivery("mail", "some-id", raw, 0)
    assert (delivery.args is None) is (len(payload) > limit)
    assert ("x" * 150 in raw) is (size >= 150 and len(payload) <= limit)
    assert delivery.task == "tests.app.tasks.noop"


SAID: dict[str, Any] = {
    "priority": -50,
    "lane": "tenant 7",
    "max_attempts": 4,
    "enqueued_at": 1_800_000_000.000001,
    "meta": '{"by":["me"]}',
}


@pytest.mark.parametrize("more,suspect", [("", False), (",true", True)])
def test_bodies_of_the_release_before_are_read_and_written_as_they_were(more: str, suspect: bool) -> None:
    raw = f'5:-|["a.b",3,1,0,4,1800000000.000001,null,1.5,null,"default"{more}][[1],{{"x":"]"}}]'
    delivery = Delivery("mail", "some-id", raw, 0)
    assert not delivery.unreadable
    assert (delivery.number, delivery.started_at, delivery.suspect) == (3, 1.5, suspect)
    assert (delivery.lane, delivery.meta) == (LANE, None)
    assert encode(delivery, delivery.payload, 100) == raw


def test_an_unreadable_body_names_no_task() -> None:
    delivery = Delivery("mail", "some-id", "of another time", 0)
    assert delivery.unreadable
    assert (delivery.task, delivery.number, delivery.args) == ("?", 0, None)


class Few(enum.IntEnum):
    THREE = 3


def test_numbers_of_other_types_are_written_as_numbers() -> None:
    assert body(max_attempts=Few.THREE) == body(max_attempts=3)


def test_meta_is_an_object_of_limited_size() -> None:
    assert dump_meta(None) is None
    assert dump_meta({}) is None
    assert dump_meta({"trace": "é"}) == '{"trace":"é"}'
    dump_meta({"x": "é" * (META_LIMIT // 2 - 4)})
    with pytest.raises(InvalidOption, match="at most 2,048 travel with a job"):
        dump_meta({"x": "é" * (META_LIMIT // 2 - 3)})
    with pytest.raises(InvalidOption, match=r"meta\['at'\] is of type builtins.object"):
        dump_meta({"at": object()})
    with pytest.raises(InvalidOption, match="use a dict"):
        dump_meta([("a", 1)])  # type: ignore[arg-type]


def test_a_suspect_is_said_in_the_fewest_words() -> None:
    assert body(suspect=True) == body().replace('""][', '"",true][')


@pytest.mark.parametrize(
    "more",
    [
        "1",
        "false",
        "null",
        "[true",
        '"of the next release"',
        "true,true",
        "true,null",
        "false,false",
        'false,"{}",1',
    ],
)
def test_a_head_of_another_release_is_not_guessed_at(more: str) -> None:
    raw = body().replace('""][', f'"",{more}][')
    assert Delivery("mail", "some-id", raw, 0).unreadable


def test_the_scripts_find_priority_and_lane_in_front() -> None:
    assert body(priority=-50).startswith(f"-50:{LANE}|[")
    assert body(lane="tenant 7").startswith("0:tenant 7|[")


def test_the_next_delivery_carries_on_even_if_the_task_changed_its_arguments() -> None:
    first = Delivery("mail", "some-id", body('[[[1]],{"a":{}}]', **SAID), 5.0)
    first.args[0].append(2)  # type: ignore[index]
    first.kwargs["b"] = 1
    entry = entry_of_next(first, failures=1, deaths=2, run_at=9.25, started_at=6.5)
    second = Delivery("mail", entry[0], entry[2], 10.0)
    assert entry[:2] == ("some-id", 9.25)
    assert (second.number, second.failures, second.deaths) == (2, 1, 2)
    assert (second.run_after, second.started_at) == (9.25, 6.5)
    assert (second.args, second.kwargs) == ([[1]], {"a": {}})
    # What the first attempt says stays: when the job was first started, and its options.
    third = Delivery(
        "mail",
        "some-id",
        entry_of_next(second, failures=2, deaths=2, run_at=None, started_at=20.0)[2],
        0,
    )
    assert (third.number, third.started_at, third.run_after) == (3, 6.5, 9.25)
    assert (third.task, third.priority, third.max_attempts) == ("tests.app.tasks.noop", -50, 4)
    assert third.enqueued_at == 1_800_000_000.000001
    assert (third.lane, third.meta) == ("tenant 7", '{"by":["me"]}')


def test_a_row_and_a_delivery_say_the_same() -> None:
    at = clock.from_seconds(1_800_000_000.000001)
    row = Job(
        task="tests.app.tasks.noop",
        queue="mail",
        priority=7,
        payload='[[1],{"x":"é"}]',
        attempt=2,
        failures=1,
        deaths=1,
        suspect=True,
        lane="tenant 7",
        meta='{"by":["me"]}',
        max_attempts=5,
        timeout=2.5,
        backend="default",
        enqueued_at=at,
        started_at=at,
        run_after=at,
    )
    entry = entry_of_row(row)
    delivery = Delivery("mail", entry[0], entry[2], 0)
    assert entry[:2] == (str(row.pk), at.timestamp())
    assert (delivery.number, delivery.failures, delivery.deaths, delivery.max_attempts) == (3, 1, 1, 5)
    assert delivery.suspect is True
    assert (delivery.lane, delivery.meta) == ("tenant 7", '{"by":["me"]}')
    assert (delivery.args, delivery.kwargs) == ([1], {"x": "é"})
    assert (delivery.priority, delivery.timeout, delivery.backend) == (7, 2.5, "default")
    assert clock.from_seconds(delivery.enqueued_at) == at
