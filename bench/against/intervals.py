"""Ratios of measures that were taken in pairs, and the interval that holds the true one in 95 of 100 comparisons.

Pairs are taken close to each other, so that a slow minute of the machine hits both. The logarithms of their ratios are
averaged; Student's t gives the interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

#: 97.5 % quantiles of Student's t for 1, 2, 3, … degrees of freedom.
_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio (geometric mean) and the ends of its interval; these are None if one pair is all there is."""

    value: float
    low: float | None
    high: float | None

    def inverse(self) -> Ratio:
        """The ratio the other way round."""
        if self.low is None or self.high is None:
            return Ratio(1 / self.value, None, None)
        return Ratio(1 / self.value, 1 / self.high, 1 / self.low)


def ratio(before: Sequence[float], after: Sequence[float]) -> Ratio:
    """`after` divided by `before`, pair by pair.

    Args:
        before, after: the same measure of both sides, in the order of the rounds; all above 0.
    """
    logs = [math.log(b / a) for a, b in zip(before, after, strict=True)]
    middle = mean(logs)
    if len(logs) < 2:
        return Ratio(math.exp(middle), None, None)
    reach = quantile(len(logs) - 1) * stdev(logs) / math.sqrt(len(logs))
    return Ratio(math.exp(middle), math.exp(middle - reach), math.exp(middle + reach))


def quantile(freedom: int) -> float:
    """The 97.5 % quantile of Student's t."""
    if freedom <= len(_T):
        return _T[freedom - 1]
    # Above 30 degrees of freedom the first terms of the expansion around the normal quantile are exact enough.
    z = 1.959964
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
