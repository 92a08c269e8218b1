"""The statistics of `python -m bench --against`: ratios of pairs, how sure they are, and what is said of them."""

from __future__ import annotations

import random

import pytest

from bench.against.intervals import Ratio, quantile, ratio
from bench.against.verdict import MEASURES, Verdict, judge
from tests.support.marks import on_sqlite_alone

pytestmark = on_sqlite_alone

CPU = next(measure for measure in MEASURES if measure.key == "drain_us")
RATE = next(measure for measure in MEASURES if measure.key == "drain_per_s")


def test_a_ratio_is_taken_pair_by_pair() -> None:
    """The machine was slow in the second round, for both sides."""
    found = ratio([100.0, 200.0, 100.0], [110.0, 220.0, 110.0])
    assert (found.value, found.low, found.high) == tuple([pytest.approx(1.1)] * 3)
    # The logarithms of 1.0, 1.1, 1.21: mean log 1.1, standard deviation log 1.1, and 4.303 / sqrt(3) of it.
    found = ratio([100.0, 100.0, 100.0], [100.0, 110.0, 121.0])
    assert found.value == pytest.approx(1.1)
    assert found.low == pytest.approx(1.1 ** (1 - 2.48434), rel=1e-4)
    assert found.high == pytest.approx(1.1 ** (1 + 2.48434), rel=1e-4)
    assert ratio([100.0], [110.0]) == Ratio(pytest.approx(1.1), None, None)


@pytest.mark.parametrize(
    ("freedom", "value"), [(1, 12.706), (9, 2.262), (40, 2.021), (60, 2.000), (120, 1.980)]
)
def test_quantiles_of_student(freedom: int, value: float) -> None:
    assert quantile(freedom) == pytest.approx(value, abs=6e-4)


def test_the_interval_holds_the_true_ratio_in_95_of_100_comparisons() -> None:
    dice = random.Random(7)
    held = 0
    for _ in range(2_000):
        minutes = [dice.lognormvariate(4, 0.3) for _ in range(10)]  # the machine's moods, shared by a pair
        before = [minute * dice.lognormvariate(0, 0.03) for minute in minutes]
        after = [minute * 1.04 * dice.lognormvariate(0, 0.03) for minute in minutes]
        found = ratio(before, after)
        assert found.low is not None and found.high is not None
        held += found.low <= 1.04 <= found.high
    assert held / 2_000 == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (1.06, 1.10, "WORSE by more than 5%"),
        (1.02, 1.07, "UNDECIDED (5%): take more rounds"),
        (0.98, 1.051, "UNDECIDED (5%): take more rounds"),
        (1.01, 1.04, "worse by less than 5%"),
        (0.99, 1.02, "no difference seen"),
        (0.90, 0.97, "better"),
    ],
)
def test_what_is_said_of_an_interval(low: float, high: float, said: str) -> None:
    assert Verdict(CPU, 1.0, 1.0, Ratio((low + high) / 2, low, high)).text == said
    assert Verdict(RATE, 1.0, 1.0, Ratio(2 / (low + high), 1 / high, 1 / low)).text == said


def test_every_measure_asked_for_is_judged() -> None:
    before = {measure.key: 2.0 for measure in MEASURES}
    verdicts = judge([(before, before | {"drain_us": 1.0})] * 3, ["drain", "idle"])
    assert [v.measure.key for v in verdicts] == [m.key for m in MEASURES if m.of in ("drain", "idle")]
    found = {v.measure.key: (v.before, v.after, v.ratio.value) for v in verdicts}
    assert found["drain_us"] == (2.0, 1.0, 0.5) and found["idle_percent"] == (2.0, 2.0, 1.0)
