"""Confidence intervals of means."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from audit_lit.statistics.values import Values

NORMAL = 1.96
MIN_DIALOGS = 5
"""From which on intervals are taken over dialogs."""


def mean_interval(values: Values) -> tuple[float, float]:
    """Return Student's 95% interval of a mean: a bootstrap of a handful of dialogs is far too narrow."""
    from scipy.stats import t

    if len(values) < 2 or np.ptp(values) == 0:
        return (float(np.mean(values)), float(np.mean(values)))
    low, high = t.interval(
        0.95, len(values) - 1, loc=np.mean(values), scale=np.std(values, ddof=1) / len(values) ** 0.5
    )
    return (float(low), float(high))


def few_interval(values: Values, intervals: Values) -> tuple[float, float]:
    """Return a 95% interval of the mean of a few dialogs' values from their own intervals, one row each.

    Fewer than ``MIN_DIALOGS`` say too little about how much dialogs differ.
    """
    errors = (intervals[:, 1] - intervals[:, 0]) / (2 * NORMAL)
    half = NORMAL * float(np.sqrt(np.sum(errors**2))) / len(values)
    return (float(values.mean()) - half, float(values.mean()) + half)


def bootstrap_interval(values: npt.ArrayLike, *, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a mean; one value, or equal ones, have no spread to resample."""
    from scipy.stats import bootstrap

    data = np.asarray(values, dtype=float)
    if len(data) < 2 or np.ptp(data) == 0:
        return (float(data.mean()), float(data.mean()))
    found = bootstrap((data,), np.mean, confidence_level=level, method="percentile", rng=seed)
    return (float(found.confidence_interval.low), float(found.confidence_interval.high))
