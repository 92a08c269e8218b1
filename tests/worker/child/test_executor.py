"""Running is not recording: whatever a task does, the executor says what came of it."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Any

import pytest
from django.test import override_settings

from queue_app import signals
from queue_app.domain.delivery import Delivery
from queue_app.domain.error_text import MESSAGE_LIMIT, TRACEBACK_LIMIT, clean, trace
from queue_app.domain.outcome import killed
from queue_app.domain.retry import policy_from
from queue_app.domain.states import AttemptState, DeadReason, JobState
from queue_app.exceptions import Cancelled, Discard, HardTimeout, InvalidOption, Retry, Snooze
from queue_app.tasks.context import JobContext
from queue_app.worker.child import executor as executor_module
from queue_app.worker.child.executor import hard_limit, soft_limit
from tests.support.executing import Sink, declared, delivery, raising, run

# success


def test_what_is_returned_is_the_result() -> None:
    outcome = run(lambda a, b: (a, b), '[[1],{"b":"é"}]')
    assert outcome.state is AttemptState.SUCCEEDED
    assert outcome.result == '[1,"é"]'
    assert outcome.job_state is JobState.SUCCEEDED
    assert outcome.started_at is not None and outcome.started_at <= outcome.finished_at
    assert (outcome.error, outcome.error_class, outcome.traceback) == ("", "", "")


def test_nothing_returned_is_no_text() -> None:
    assert run(lambda: None).result is None
    assert run(lambda: False).result == "false"


def test_a_coroutine_function_is_run_to_its_end() -> None:
    async def add(a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a + b

    assert run(add, "[[1,2],{}]").result == "3"


def test_a_context_comes_first() -> None:
    seen: list[Any] = []

    def task(context: JobContext, a: int) -> None:
        seen.extend([context.attempt, context.failures, context.max_attempts, context.job_id, a])

    run(task, "[[9],{}]", takes_context=True, number=3, failures=1)
    assert seen == [3, 1, 3, "some-id", 9]


# failure


def test_what_is_raised_is_kept_and_tried_again() -> None:
    outcome = run(raising(KeyError("colour")))
    assert outcome.state is AttemptState.FAILED and outcome.job_state is JobState.RETRYING
    assert outcome.error_class == "builtins.KeyError"
    assert outcome.error == "'colour'"
    assert outcome.run_at is not None and math.isclose(outcome.run_at, outcome.finished_at + 10)
    assert isinstance(outcome.exception, KeyError)
    assert outcome.traceback.startswith("Traceback (most recent call last):")
    assert outcome.traceback.endswith("KeyError: 'colour'\n")
    assert "raise error" in outcome.traceback
    assert executor_module.__file__ not in outcome.traceback


def test_the_last_failure_is_the_end() -> None:
    outcome = run(raising(ValueError("x")), failures=2)
    assert (outcome.run_at, outcome.dead_reason) == (None, DeadReason.EXHAUSTED)
    assert outcome.job_state is JobState.FAILED


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit(), asyncio.CancelledError()])
def test_not_even_these_end_the_worker(error: BaseException) -> None:
    outcome = run(raising(error))
    assert outcome.state is AttemptState.FAILED
    assert outcome.error_class == f"{type(error).__module__}.{type(error).__qualname__}"


def test_an_interrupt_of_the_process_is_not_the_tasks() -> None:
    with pytest.raises(KeyboardInterrupt):
        run(raising(KeyboardInterrupt()))


def test_wrong_arguments_are_a_failure_of_the_job() -> None:
    outcome = run(lambda: None, "[[1],{}]")
    assert outcome.error_class == "builtins.TypeError"
    assert "takes 0 positional arguments" in outcome.error


class BrokenText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class BrokenEverything(Exception):
    __notes__ = 5  # type: ignore[assignment]

    def __str__(self) -> str:
        raise SystemExit(1)


def test_an_exception_without_text_is_recorded_all_the_same() -> None:
    outcome = run(raising(BrokenText()))
    assert outcome.error == "(its text could not be made: RuntimeError)"
    assert outcome.error_class == f"{__name__}.BrokenText"
    assert "BrokenText" in outcome.traceback
    assert outcome.run_at is not None


def test_an_exception_that_ends_the_process_when_printed() -> None:
    outcome = run(raising(BrokenEverything()))
    assert outcome.state is AttemptState.FAILED
    assert outcome.error == "(its text could not be made: SystemExit)"


def test_endless_recursion_is_a_failure() -> None:
    def task() -> None:
        task()

    outcome = run(task)
    assert outcome.error_class == "builtins.RecursionError"
    assert 0 < len(outcome.traceback) <= TRACEBACK_LIMIT


def test_what_no_database_can_store_is_written_out() -> None:
    outcome = run(raising(ValueError("a\x00b\ud800c")))
    assert outcome.error == "a\\x00b\\ud800c"
    assert "\x00" not in outcome.traceback
    outcome.traceback.encode()


def test_long_texts_are_cut_at_the_right_end() -> None:
    outcome = run(raising(ValueError("x" * 100_000)))
    assert outcome.error == "x" * MESSAGE_LIMIT
    assert len(outcome.traceback) == TRACEBACK_LIMIT
    assert outcome.traceback.endswith("xxx\n")  # its end says more than its beginning


@pytest.mark.parametrize("text", ["", "plain", "é", "a\x00", "\udcff", "\U0001f600"])
def test_clean_text_can_be_stored(text: str) -> None:
    cleaned = clean(text, 100)
    cleaned.encode()
    assert "\x00" not in cleaned
    assert cleaned == text or "\\" in cleaned
    assert clean(text * 100, 7) == clean(text * 100, 1000)[:7]


def test_a_chain_of_exceptions_is_kept() -> None:
    def task() -> None:
        try:
            {}["colour"]
        except KeyError as error:
            raise RuntimeError("cannot paint") from error

    assert "direct cause" in run(task).traceback


def test_an_exception_without_a_traceback() -> None:
    assert trace(ValueError("x")) == "ValueError: x\n"


# results that cannot be kept


@pytest.mark.parametrize("value", [object(), {1.5: 2}, float("nan"), "a\x00", {"a": [b"\xff"]}])
def test_a_result_that_is_not_json_fails_the_attempt(value: Any) -> None:
    outcome = run(lambda: value)
    assert outcome.state is AttemptState.FAILED
    assert outcome.error_class == "builtins.TypeError"
    assert outcome.error.startswith(("the return value", "a key of the return value"))
    assert outcome.result is None


def test_a_result_that_contains_itself_fails_the_attempt() -> None:
    knot: list[Any] = []
    knot.append(knot)
    assert run(lambda: knot).error_class == "builtins.TypeError"


@override_settings(QUEUE_APP={"RESULT_LIMIT": 64})
def test_a_result_that_is_too_large_fails_the_attempt() -> None:
    assert run(lambda: "x" * 62).state is AttemptState.SUCCEEDED
    outcome = run(lambda: "x" * 63)
    assert outcome.error_class == "builtins.ValueError"
    assert "65 bytes of JSON; RESULT_LIMIT is 64" in outcome.error


# what tasks raise to decide


def test_snooze_is_no_failure() -> None:
    outcome = run(raising(Snooze(60, "later")), failures=2)
    assert outcome.state is AttemptState.SNOOZED and outcome.job_state is JobState.SCHEDULED
    assert (outcome.counts, outcome.error, outcome.traceback) == (False, "later", "")
    assert outcome.run_at is not None and math.isclose(outcome.run_at, outcome.finished_at + 60)


def test_discard_is_the_end() -> None:
    outcome = run(raising(Discard("no such customer")))
    assert outcome.dead_reason is DeadReason.DISCARDED
    assert outcome.error == "no such customer"


def test_retry_says_when() -> None:
    outcome = run(raising(Retry("busy", after=5)))
    assert outcome.run_at is not None and math.isclose(outcome.run_at, outcome.finished_at + 5)


@pytest.mark.parametrize("error", [Retry(after="soon"), Snooze(float("nan")), Retry(after=True)])  # type: ignore[arg-type]
def test_a_wrong_time_is_logged_and_the_default_policy_used(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "queue_app"):
        outcome = run(raising(error))
    assert outcome.run_at is not None and 0 < outcome.run_at - outcome.finished_at <= 2
    assert "The backoff of tests.some failed for job some-id" in caplog.text


def test_a_backoff_function_that_fails_is_logged_and_replaced(caplog: pytest.LogCaptureFixture) -> None:
    def broken(failures: int, error: BaseException) -> float:
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR, "queue_app"):
        outcome = run(raising(ValueError("x")), policy=policy_from(broken))
    assert outcome.error == "x" and outcome.run_at is not None
    assert "ZeroDivisionError" in caplog.text


# time limits


def test_a_soft_limit_is_a_time_out() -> None:
    outcome = run(lambda: None, soft=2.5)
    assert outcome.state is AttemptState.TIMED_OUT
    assert outcome.error_class == "queue_app.exceptions.SoftTimeout"
    assert outcome.error == "after 2.5"
    assert outcome.job_state is JobState.RETRYING


def test_without_a_limit_no_time_is_up() -> None:
    assert run(lambda: 1, soft=None).result == "1"


def test_a_hard_limit_is_a_time_out() -> None:
    outcome = killed(None, delivery(failures=2), 5.0, 7.25)
    assert outcome.state is AttemptState.TIMED_OUT
    assert outcome.error == "Killed after 7.2 s, its hard time limit."
    assert outcome.error_class == "queue_app.exceptions.HardTimeout"
    assert outcome.dead_reason is DeadReason.EXHAUSTED
    again = killed(None, delivery(), None, 1)
    assert again.dead_reason is None and again.run_at is not None


def test_a_task_that_raises_the_hard_limit_itself() -> None:
    assert run(raising(HardTimeout("mine"))).state is AttemptState.TIMED_OUT


@override_settings(QUEUE_APP={"TIMEOUT": 9, "HARD_TIMEOUT_GRACE": 2})
def test_whose_limit_counts() -> None:
    def both(call: float | None, soft: float | None = None, hard: float | None = None) -> tuple[Any, Any]:
        task = declared(len, timeout=soft, hard_timeout=hard)
        limit = soft_limit(task, delivery(timeout=call))
        return limit, hard_limit(task, limit)

    assert both(None) == (9, 11)  # the settings'
    assert both(None, 5) == (5, 7)  # the task's
    assert both(3, 5) == (3, 5)  # the call's
    assert both(3, 5, 20) == (3, 20)
    assert both(60, 5, 20) == (60, 60)  # never before the soft one


@override_settings(QUEUE_APP={})
def test_without_any_limit_there_is_none() -> None:
    assert soft_limit(declared(len), delivery()) is None
    assert hard_limit(declared(len), None) is None
    assert hard_limit(declared(len, hard_timeout=7), None) == 7


# cancelled


def test_an_interruption_ends_the_job_and_is_no_failure() -> None:
    outcome = run(raising(Cancelled()), cancelled=True)
    assert (outcome.state, outcome.job_state) == (AttemptState.CANCELLED, JobState.CANCELLED)
    assert (outcome.error_class, outcome.error) == (
        "queue_app.exceptions.Cancelled",
        "The job was cancelled.",
    )
    assert outcome.traceback.endswith("queue_app.exceptions.Cancelled: The job was cancelled.\n")
    assert (outcome.run_at, outcome.dead_reason, outcome.counts) == (None, None, False)


def test_a_task_that_says_cancelled_of_its_own_accord_has_failed() -> None:
    outcome = run(raising(Cancelled("I do not want to")))
    assert (outcome.state, outcome.job_state) == (AttemptState.FAILED, JobState.RETRYING)


def test_handlers_of_errors_do_not_catch_it() -> None:
    def task() -> str:
        try:
            raise Cancelled
        except Exception:
            return "swallowed"

    assert run(task, cancelled=True).state is AttemptState.CANCELLED


def test_a_success_stays_one() -> None:
    assert run(lambda: "done", cancelled=True).job_state is JobState.SUCCEEDED


@pytest.mark.parametrize("known", [True, False])
def test_the_context_says_whether_it_was_cancelled(known: bool) -> None:
    assert run(lambda context: context.cancelled, takes_context=True, cancelled=known).result == (
        "true" if known else "false"
    )
    assert JobContext(delivery(), None, None).cancelled is False


# those who listen


def test_a_receiver_is_told_of_the_start_and_cannot_break_the_job() -> None:
    told = []

    def receiver(delivery: Delivery, worker_id: str, **_: Any) -> None:
        told.append((delivery.id, worker_id))
        raise RuntimeError("a broken receiver")

    signals.attempt_started.connect(receiver)
    try:
        assert run(lambda: 1).result == "1"
    finally:
        signals.attempt_started.disconnect(receiver)
    assert told == [("some-id", "worker-1")]


# progress


def test_progress_goes_to_the_sink_as_json() -> None:
    sink = Sink()
    context = JobContext(delivery(), None, sink)
    context.progress(1, 3, "a third")
    context.progress(0.5)
    context.progress(2, note="é" * 300)
    assert sink.said == ['[1,3,"a third"]', '[0.5,null,""]', f'[2,null,"{"é" * 200}"]']
    JobContext(delivery(), None, None).progress(1)  # nobody listens: nothing happens


@pytest.mark.parametrize(
    "arguments,said",
    [((-1,), "done=-1"), (("1",), "done='1'"), ((1, -5), "total=-5"), ((True,), "done=True")],
)
def test_wrong_progress_is_answered(arguments: tuple[Any, ...], said: str) -> None:
    with pytest.raises(InvalidOption, match=rf"progress\({said}\): use a number of 0 or more"):
        JobContext(delivery(), None, Sink()).progress(*arguments)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_progress_without_a_number_is_answered(value: float) -> None:
    with pytest.raises(InvalidOption, match="use a number"):
        JobContext(delivery(), None, Sink()).progress(value)
