"""Sensitive values in the texts of errors: cut after they are masked, and masked in every text that repeats them."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from queue_app import task
from queue_app.domain.error_text import MESSAGE_LIMIT, TRACEBACK_LIMIT
from queue_app.domain.outcome import Outcome
from queue_app.domain.retry import policy_from
from queue_app.tasks.sensitive import MASK, hidden
from queue_app.worker.child.executor import Executor
from tests.support.executing import Expired, Sink, declared, delivery

CARD = "4111222233334444"


def read(document: str) -> None:
    raise ValueError(document)


def decline(card: str) -> None:
    raise ValueError(f"declined {card}")


def broken_backoff(failures: int, error: BaseException) -> float:
    raise RuntimeError("no backoff")


def outcome_of(one: Any, value: str) -> Outcome:
    executor = Executor("worker-1", Expired(), None, Sink())  # type: ignore[arg-type]
    return executor.execute(
        declared(one.func, task=one, policy=policy_from(one.backoff)),
        delivery(json.dumps([[value], {}])),
        None,
        1.0,
    )


@pytest.mark.parametrize(
    "value,text",
    [
        ("SECRET-" * 10_000, "{}"),
        (CARD, "x" * (MESSAGE_LIMIT - 8) + "{}"),
        (CARD, "{}" + "x" * TRACEBACK_LIMIT),
    ],
    ids=["longer than the limit", "across the end of the message", "across the start of the traceback"],
)
def test_a_value_is_masked_before_its_text_is_cut(value: str, text: str) -> None:
    def fail(document: str) -> None:
        raise ValueError(text.format(document))

    fail.__qualname__ = "fail"
    outcome = outcome_of(task(sensitive=["document"])(fail), value)
    assert len(outcome.error) <= MESSAGE_LIMIT and len(outcome.traceback) <= TRACEBACK_LIMIT
    for shown in (outcome.error, outcome.traceback):
        assert value[:6] not in shown and value[-6:] not in shown


def test_a_backoff_that_fails_logs_no_value(caplog: pytest.LogCaptureFixture) -> None:
    outcome = outcome_of(task(sensitive=["card"], backoff=broken_backoff, max_attempts=5)(decline), CARD)
    assert outcome.error == f"declined {MASK}"
    assert "no backoff" in caplog.text and MASK in caplog.text and CARD not in caplog.text
    assert all(record.exc_info in (None, False) for record in caplog.records)


def test_without_sensitive_arguments_its_traceback_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        outcome_of(task(backoff=broken_backoff, max_attempts=5)(decline), CARD)
    assert any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize(
    "value,text",
    [
        ('ä"b-secret', json.dumps('ä"b-secret', ensure_ascii=False)),
        ({CARD: 1}, f"card {CARD}"),
        ("12", "card_12 and 12_card"),
    ],
)
def test_other_spellings_are_masked_too(value: Any, text: str) -> None:
    shown = hidden(text, task(sensitive=["card"])(decline), [value], {})
    assert MASK in shown and "secret" not in shown and CARD not in shown and "12" not in shown
