"""What samples of the queues' figures say about a span of time."""

from __future__ import annotations

import pytest

from queue_app.dispatch.figures import Figures, Sample
from queue_app.maintenance.rates import within
from tests.support.marks import on_sqlite_alone

pytestmark = on_sqlite_alone


def sample(at: float, run_ms: int = 0, **ended: int) -> Sample:
    return Sample(at, {"default": Figures(ended=ended, run_ms=run_ms)})


def test_nothing_is_known_without_samples() -> None:
    found = within([], 60)
    assert (found.seconds, found.lines, found.samples) == (0.0, [], [])


def test_one_sample_has_no_rate() -> None:
    (line,) = within([sample(100, succeeded=7)], 60).lines
    assert (line.ended, line.per_second, line.mean_run) == ({}, None, None)


def test_the_span_has_one_sample_more_than_fit() -> None:
    samples = [sample(at, succeeded=at) for at in (70, 80, 90, 100)]
    assert [s.at for s in within(samples, 15).samples] == [80, 90, 100]
    assert [s.at for s in within(samples, 1).samples] == [90, 100], "or there would be no answer"
    assert [s.at for s in within(samples, 600).samples] == [70, 80, 90, 100]


def test_rates_and_the_mean_run() -> None:
    samples = [sample(80, 1_000, succeeded=10), sample(100, 4_000, succeeded=25, failed=5)]
    found = within(samples, 20)
    (line,) = found.lines
    assert found.seconds == 20
    assert line.ended == {"succeeded": 15, "failed": 5}
    assert line.per_second == {"failed": 0.25, "succeeded": 0.75}
    assert line.mean_run == pytest.approx(0.15)


def test_numbers_that_began_anew_are_no_negative_rate() -> None:
    samples = [sample(80, 90_000, succeeded=900), sample(90, 500, succeeded=5), sample(100, 700, succeeded=7)]
    (line,) = within(samples, 60).lines
    assert (line.ended, line.mean_run) == ({"succeeded": 7}, pytest.approx(0.1))


def test_a_queue_that_is_new_counts_from_nothing() -> None:
    before = Sample(90, {})
    (line,) = within([before, sample(100, succeeded=5)], 60).lines
    assert line.ended == {"succeeded": 5}
