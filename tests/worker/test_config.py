"""`--queues`: an order, or weights."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_app.exceptions import InvalidOption
from queue_app.worker.config import QueueChoice

names = st.from_regex(r"\A[a-z][a-z0-9_.\-]{0,8}\Z")


def test_an_order_is_kept() -> None:
    choice = QueueChoice.parse("mail, default,bulk")
    assert choice == QueueChoice(("mail", "default", "bulk"), None)
    assert choice.order() == ["mail", "default", "bulk"]


def test_one_weight_makes_all_of_them_weights() -> None:
    assert QueueChoice.parse("mail:6,default") == QueueChoice(("mail", "default"), (6, 1))


@given(st.lists(st.tuples(names, st.integers(1, 1000)), min_size=1, max_size=5, unique_by=lambda q: q[0]))
def test_what_is_printed_can_be_read_again(queues: list[tuple[str, int]]) -> None:
    choice = QueueChoice.parse(",".join(f"{name}:{weight}" for name, weight in queues))
    assert QueueChoice.parse(str(choice)) == choice
    assert sorted(choice.order()) == sorted(choice.names)
    plain = QueueChoice(choice.names, None)
    assert QueueChoice.parse(str(plain)) == plain


def test_each_comes_first_as_often_as_it_weighs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("queue_app.worker.config.random", random.Random(7))
    choice = QueueChoice.parse("a:6,b:3,c:1")
    first = Counter(choice.order()[0] for _ in range(5_000))
    for name, share in (("a", 0.6), ("b", 0.3), ("c", 0.1)):
        assert abs(first[name] / 5_000 - share) < 0.03, first
    # Nobody is ever left out: a claim asks the others when the first one is empty.
    assert all(len(choice.order()) == 3 for _ in range(20))


@pytest.mark.parametrize(
    "text,said",
    [
        ("", "queue_name is ''"),
        ("mail,,default", "queue_name is ''"),
        ("ma il", "queue_name is 'ma il'"),
        ("mail,mail", "--queues names 'mail' twice"),
        ("mail:2,mail:3", "--queues names 'mail' twice"),
        ("mail:", "gives 'mail' the weight ''; use a whole number from 1 to 1000"),
        ("mail:0", "the weight '0'"),
        ("mail:-1", "the weight '-1'"),
        ("mail:1.5", "the weight '1.5'"),
        ("mail:1001", "the weight '1001'"),
        ("mail:x", "the weight 'x'"),
        ("mail:1:2", "the weight '1:2'"),
        ("mail:²", "the weight '²'"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        QueueChoice.parse(text)
    assert said in str(caught.value)
