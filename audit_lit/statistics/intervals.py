"""Measured values, and confidence intervals of their means, all of them at 95%."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

LEVEL = 0.95
NORMAL = 1.96
"""Standard errors from the middle of a normal 95% interval to its end."""
MIN_DIALOGS = 5
"""Smallest number of dialogs over which intervals are taken."""
Interval = tuple[float, float]
Values = npt.NDArray[np.float64]


def mean_interval(values: npt.ArrayLike) -> Interval:
    """Return Student's interval of a mean: a bootstrap of a handful of values is far too narrow."""
    from scipy.stats import t

    data = np.asarray(values, dtype=float)
    if not _has_spread(data):
        return float(data.mean()), float(data.mean())
    error = np.std(data, ddof=1) / len(data) ** 0.5
    low, high = t.interval(LEVEL, len(data) - 1, loc=data.mean(), scale=error)
    return float(low), float(high)


def bootstrap_interval(values: npt.ArrayLike, *, seed: int = 0) -> Interval:
    """Return the percentile bootstrap interval of a mean (Efron 1979)."""
    from scipy.stats import bootstrap

    data = np.asarray(values, dtype=float)
    if not _has_spread(data):
        return float(data.mean()), float(data.mean())
    interval = bootstrap((data,), np.mean, confidence_level=LEVEL, method="percentile", rng=seed).confidence_interval
    return float(interval.low), float(interval.high)


def wilson_interval(count: int, n: int) -> Interval:
    """Return the Wilson score interval of a share (Wilson 1927); from 0 to 1 if nothing was counted."""
    from scipy.stats import binomtest

    if not n:
        return 0.0, 1.0
    low, high = binomtest(count, n).proportion_ci(confidence_level=LEVEL, method="wilson")
    return float(low), float(high)


def few_interval(values: Values, intervals: Values) -> Interval:
    """Return an interval of the mean of a few dialogs' values from the intervals of each, one row per dialog.

    Fewer dialogs than ``MIN_DIALOGS`` say too little about how much dialogs differ.
    """
    errors = (intervals[:, 1] - intervals[:, 0]) / (2 * NORMAL)
    half_width = NORMAL * float(np.sqrt(np.sum(errors**2))) / len(values)
    return float(values.mean()) - half_width, float(values.mean()) + half_width


def _has_spread(data: Values) -> bool:
    return len(data) > 1 and bool(np.ptp(data) != 0)
