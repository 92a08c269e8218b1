"""Sensitive arguments: checked when the task is declared, and kept out of the texts of errors."""

from __future__ import annotations

from typing import Any

import pytest

from queue_app import task
from queue_app.domain.states import AttemptState
from queue_app.exceptions import Cancelled, InvalidOption
from queue_app.tasks.sensitive import MASK, hidden
from queue_app.worker.child.executor import Executor
from tests.support.executing import Expired, Sink, declared, delivery


def pay(customer: int, card: str, *more: Any, pin: Any = None, **rest: Any) -> None: ...


def ship(customer: int, card: str, pin: Any = None) -> None: ...


def with_context(context: Any, card: str) -> None: ...


@pytest.mark.parametrize(
    "args,kwargs,text,shown",
    [
        ([7, "4111-22"], {}, "card 4111-22 of 7 declined", f"card {MASK} of 7 declined"),
        ([7], {"card": "4111-22"}, "card 4111-22 declined", f"card {MASK} declined"),
        ([7], {"card": {"no": ["4111-22", 99999]}}, "4111-22, 99999", f"{MASK}, {MASK}"),
        ([7, "4111-22"], {"pin": 123}, "pin 123, line 1234", f"pin {MASK}, line 1234"),
        ([7, 'a"b\nc'], {}, r""""a\"b\nc" and 'a"b\nc' """, f'''"{MASK}" and '{MASK}' '''),
        ([7, None], {"pin": True}, "None True", "None True"),
        ([7, ""], {}, "declined", "declined"),
        ([], {}, "missing 2 required arguments", "missing 2 required arguments"),
        ([7, "4111", "5222"], {"pin": 1, "x": "6333"}, "4111 5222 6333", f"{MASK} 5222 6333"),
    ],
)
def test_values_are_hidden_by_position_and_by_keyword(args: Any, kwargs: Any, text: str, shown: str) -> None:
    assert hidden(text, task(sensitive=["card", "pin"])(pay), args, kwargs) == shown


def test_the_context_is_no_argument() -> None:
    declared = task(sensitive=["card"], takes_context=True)(with_context)
    assert hidden("4111 declined", declared, ["4111"], {}) == f"{MASK} declined"


def test_all_that_is_left_over_can_be_sensitive() -> None:
    declared = task(sensitive=["more", "rest"])(pay)
    assert hidden("4111 5222 6333", declared, [7, "4111", "5222"], {"x": "6333"}) == f"4111 {MASK} {MASK}"


def test_without_sensitive_arguments_nothing_is_touched() -> None:
    assert hidden("4111 declined", task(ship), [7, "4111"], {}) == "4111 declined"


def test_an_unknown_name_is_an_error_when_the_task_is_declared() -> None:
    with pytest.raises(
        InvalidOption, match=r"'crad', which is no argument of 'ship'\. Did you mean 'card'\?"
    ):
        task(sensitive=["crad"])(ship)
    with pytest.raises(InvalidOption, match="no argument"):
        task(sensitive=["context"], takes_context=True)(with_context)
    for wrong in ("card", 7, [7]):
        with pytest.raises(InvalidOption, match="use a list of names"):
            task(sensitive=wrong)(ship)
    assert task(sensitive=["anything"])(pay).sensitive == ("anything",), "it takes any keyword"


def test_it_stays_with_other_options() -> None:
    assert task(sensitive=["card"])(ship).using(priority=5).sensitive == ("card",)


def decline(customer: int, card: str) -> None:
    raise ValueError(f"card {card} of {customer} declined")


def test_what_is_recorded_and_logged_of_a_failure_hides_them() -> None:
    executor = Executor("worker-1", Expired(), None, Sink())  # type: ignore[arg-type]
    known = declared(decline, task=task(sensitive=["card"])(decline))
    outcome = executor.execute(known, delivery('[[7,"4111-22"],{}]'), None, 1.7e9)
    assert outcome.error == f"card {MASK} of 7 declined"
    assert "4111-22" not in outcome.traceback and f"ValueError: card {MASK} of 7" in outcome.traceback


def give_up(customer: int, card: str) -> None:
    raise Cancelled(f"gave up on card {card} of {customer}")


def test_so_is_what_is_recorded_of_a_cancelled_attempt() -> None:
    executor = Executor("worker-1", Expired(), None, Sink(cancelled=True))  # type: ignore[arg-type]
    known = declared(give_up, task=task(sensitive=["card"])(give_up))
    outcome = executor.execute(known, delivery('[[7,"4111-22"],{}]'), None, 1.7e9)
    assert outcome.state is AttemptState.CANCELLED
    assert outcome.error == f"gave up on card {MASK} of 7"
    assert "4111-22" not in outcome.traceback and f"Cancelled: gave up on card {MASK}" in outcome.traceback
