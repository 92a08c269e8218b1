"""What samples of the queues' figures say about a span of time."""

from __future__ import annotations

import pytest

from queue_app.dispatch.queue_stats import QueueStats, Sample
from queue_app.queries.stats import within
from tests.support.marks import on_sqlite_alone

pytestmark = on_sqlite_alone


def sample(at: float, run_ms: int = 0, seconds: float = 10.0, **ended: int) -> Sample:
    return Sample(at, seconds, {"default": QueueStats(ended=ended, run_ms=run_ms)})


def test_nothing_is_known_without_samples() -> None:
    found = within([], 60)
    assert (found.seconds, found.lines, found.samples) == (0.0, [], [])


def test_the_first_sample_of_a_leader_has_no_rate() -> None:
    (line,) = within([sample(100, seconds=0.0)], 60).lines
    assert (line.ended, line.per_second, line.mean_run) == ({}, None, None)


def test_the_span_has_whole_samples_and_at_least_one() -> None:
    samples = [sample(at, succeeded=1) for at in (70, 80, 90, 100)]
    assert [s.at for s in within(samples, 25).samples] == [90, 100]
    assert [s.at for s in within(samples, 1).samples] == [100], "or there would be no answer"
    assert [s.at for s in within(samples, 600).samples] == [70, 80, 90, 100]
    assert within(samples, 25).seconds == 20


def test_rates_and_the_mean_run() -> None:
    samples = [sample(90, 1_000, succeeded=10), sample(100, 2_000, succeeded=5, failed=5)]
    (line,) = within(samples, 20).lines
    assert line.ended == {"succeeded": 15, "failed": 5}
    assert line.per_second == {"failed": 0.25, "succeeded": 0.75}
    assert line.mean_run == pytest.approx(0.15)


def test_time_in_which_nobody_counted_is_not_time_without_work() -> None:
    samples = [sample(80, succeeded=10), sample(90, seconds=0.0), sample(100, succeeded=10)]
    found = within(samples, 60)
    assert found.seconds == 20 and found.lines[0].per_second == {"succeeded": 1.0}


def test_a_queue_that_has_become_idle_is_shown_with_what_it_did() -> None:
    samples = [sample(90, succeeded=5), Sample(100, 10.0, {})]
    (line,) = within(samples, 60).lines
    assert (line.now, line.ended, line.per_second) == (QueueStats(), {"succeeded": 5}, {"succeeded": 0.25})


def test_what_ended_since() -> None:
    one = QueueStats(ended={"succeeded": 25, "failed": 5, "lost": 1}, run_ms=4_000)
    one = one.since(QueueStats(ended={"succeeded": 10, "lost": 1}, run_ms=1_000))
    assert (one.ended, one.run_ms) == ({"succeeded": 15, "failed": 5}, 3_000)


def test_numbers_that_began_anew_are_no_negative_rate() -> None:
    one = QueueStats(ended={"succeeded": 7}, run_ms=700)
    one = one.since(QueueStats(ended={"succeeded": 900}, run_ms=90_000))
    assert (one.ended, one.run_ms) == ({"succeeded": 7}, 700)
