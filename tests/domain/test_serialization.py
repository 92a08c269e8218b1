"""Arguments are JSON: what passes comes back the same, what does not is named by its path."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import math
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_app.domain.serialization import dump, dump_arguments, dump_trusted, load, normalize
from queue_app.exceptions import InvalidArguments, PayloadTooLarge

LIMIT = 10**6

#: Text without what PostgreSQL (U+0000) and UTF-8 (surrogates) refuse.
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner) | st.dictionaries(text, inner),
    max_leaves=20,
)
#: What is not JSON, with a word of the message.
refused = st.sampled_from(
    [
        (math.nan, "JSON cannot hold"),
        (math.inf, "JSON cannot hold"),
        ("a\x00b", "U+0000"),
        ("\ud800", "lone surrogate"),
        (b"\xff", "not UTF-8"),
        (object(), "builtins.object"),
        ({1, 2}, "builtins.set"),
        ({1.5: 2}, "key 1.5 of type float"),
        ({None: 2}, "key None of type NoneType"),
        (datetime.date(2026, 1, 1), "datetime.date"),
        (decimal.Decimal(1), "decimal.Decimal"),
        (uuid.UUID(int=1), "uuid.UUID"),
        (1j, "builtins.complex"),
    ]
)
#: Where it may lie: keys and indexes, outermost first.
paths = st.lists(st.one_of(st.integers(0, 3), st.sampled_from(["user", "a b", "é", "it's"])), max_size=5)


def same(a: Any, b: Any) -> bool:
    """Equal, types included: 1, 1.0 and True are told apart."""
    return repr(a) == repr(b)


@given(st.lists(values, max_size=4), st.dictionaries(text, values, max_size=4))
def test_any_json_comes_back_the_same(args: list[Any], kwargs: dict[str, Any]) -> None:
    stored = dump_arguments(tuple(args), kwargs, LIMIT)
    assert same(load(stored), [args, kwargs])
    assert same(load(dump_trusted([args, kwargs])), [args, kwargs])


@given(values)
def test_a_result_is_plain_json(value: Any) -> None:
    stored = dump(value)
    assert same(json.loads(stored), value)
    stored.encode()  # it can be stored
    assert "\x00" not in stored


@given(paths, refused)
def test_the_path_of_what_is_refused_is_named(path: list[int | str], bad: tuple[Any, str]) -> None:
    value, said = bad
    expected = "kwargs['data']"
    for step in path:
        expected += f"[{step!r}]"
    for step in reversed(path):
        value = {step: value, "other": 1} if isinstance(step, str) else [1] * step + [value, 2]
    with pytest.raises(InvalidArguments) as caught:
        dump_arguments((1,), {"data": value}, LIMIT)
    assert str(caught.value).startswith(f"{expected} ")
    assert said in str(caught.value)


def test_a_key_that_is_no_text_is_named_too() -> None:
    with pytest.raises(InvalidArguments, match=r"a key of args\[0\] contains the character U\+0000"):
        dump_arguments(({"a\x00": 1},), {}, LIMIT)


def test_a_key_that_would_be_lost_is_refused() -> None:
    assert load(dump({1: "a", -2: "b", "x": "c"})) == {"1": "a", "-2": "b", "x": "c"}
    for value in ({1: "a", "1": "b"}, {"1": "a", 1: "b"}):
        with pytest.raises(InvalidArguments, match=r"kwargs\['d'\] has one key twice"):
            dump_arguments((), {"d": value}, LIMIT)


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Sub(dict):  # type: ignore[type-arg]
    pass


@pytest.mark.parametrize(
    "value,stored",
    [
        ((1, (2,)), [1, [2]]),
        (b"caf\xc3\xa9", "café"),
        ({"a": b"x"}, {"a": "x"}),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        ({Colour.RED: 1}, {"red": 1}),
        (Sub(a=(1,)), {"a": [1]}),
        (range(3), [0, 1, 2]),
        (1e22, 1e22),
        (-0.0, -0.0),
        (2**70, 2**70),
        ("\u2028\U0001f600", "\u2028\U0001f600"),
    ],
)
def test_what_is_made_json(value: Any, stored: Any) -> None:
    assert same(normalize(value), stored)
    assert same(load(dump(value)), stored)


def test_the_given_value_is_not_touched() -> None:
    given_ = {"a": [1, (2, 3)]}
    normalize(given_)["a"].append(9)
    assert given_ == {"a": [1, (2, 3)]}


def test_the_limit_counts_bytes() -> None:
    around = len('[["é"],{}]'.encode())
    assert dump_arguments(("é",), {}, around) == '[["é"],{}]'
    with pytest.raises(PayloadTooLarge, match=rf"are {around} bytes .* PAYLOAD_LIMIT is {around - 1}\."):
        dump_arguments(("é",), {}, around - 1)


def test_what_contains_itself_is_refused() -> None:
    knot: list[Any] = []
    knot.append(knot)
    with pytest.raises(InvalidArguments, match="contains itself"):
        dump_arguments((knot,), {}, LIMIT)


def nested(levels: int) -> list[Any]:
    """Lists in lists."""
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def test_nesting_is_bounded_so_that_every_interpreter_can_read_it() -> None:
    assert load(dump_arguments((nested(100),), {}, LIMIT)) == [[nested(100)], {}]
    with pytest.raises(InvalidArguments, match="nested more than 100 levels"):
        dump_arguments((nested(101),), {}, LIMIT)
    with pytest.raises(InvalidArguments, match="nested more than 100 levels"):
        dump({"a": nested(100_000)})


@pytest.mark.parametrize("value", [10**1000 - 1, 1 - 10**1000])
def test_whole_numbers_are_bounded_so_that_every_interpreter_can_read_them(value: int) -> None:
    assert load(dump([value])) == [value]
    with pytest.raises(InvalidArguments, match=r"^kwargs\['n'\] is a whole number of more than 1,000 digits"):
        dump_arguments((), {"n": value * 10}, LIMIT)
