"""How well scores rank: top-k accuracy, and AUROC with its interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from audit_lit.statistics.intervals import Interval
from audit_lit.statistics.values import Values

N_RESAMPLES = 1000


def top_k(scores: Sequence[Values], k: int) -> Values:
    """Return for each row how likely its first candidate is among the ``k`` best, with ties broken at random."""
    shares = []
    for row in scores:
        greater, equal = int(np.sum(row[1:] > row[0])), int(np.sum(row[1:] == row[0]))
        shares.append(float(np.clip((k - greater) / (equal + 1), 0.0, 1.0)))
    return np.array(shares)


def auroc(positive: npt.ArrayLike, negative: npt.ArrayLike) -> float:
    """Return the probability that a positive scores above a negative, ties counting half (Mann-Whitney U)."""
    from scipy.stats import mannwhitneyu

    above, below = np.asarray(positive, dtype=float), np.asarray(negative, dtype=float)
    return float(mannwhitneyu(above, below).statistic) / (len(above) * len(below))


def auroc_interval(positive: npt.ArrayLike, negative: npt.ArrayLike, *, seed: int = 0) -> Interval:
    """Return the 95% percentile bootstrap interval of the AUROC.

    Both groups are drawn anew; if they have two dimensions, whole rows are, the same ones in both.
    """
    rng = np.random.default_rng(seed)
    above, below = np.asarray(positive, dtype=float), np.asarray(negative, dtype=float)

    def draw() -> float:
        rows = rng.integers(len(above), size=len(above))
        if above.ndim == 2:
            return auroc(above[rows].ravel(), below[rows].ravel())
        return auroc(above[rows], rng.choice(below, len(below)))

    low, high = np.quantile([draw() for _ in range(N_RESAMPLES)], [0.025, 0.975])
    return float(low), float(high)
