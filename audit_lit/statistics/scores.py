"""Evidence in nats: as probabilities, how well these are calibrated, and how well any scores rank."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logsumexp

from audit_lit.statistics.intervals import Interval, Values

N_BINS = 10
N_RESAMPLES = 1000


def log_mean_exp(nats: npt.ArrayLike) -> Values:
    """Return the logarithm of the mean probability over the first dimension."""
    values = np.asarray(nats, dtype=float)
    return np.asarray(logsumexp(values, axis=0) - np.log(len(values)))


def probability(evidence: npt.ArrayLike, scale: tuple[float, float]) -> Values:
    """Return ``1 / (1 + exp(-(slope * evidence + offset)))``."""
    slope, offset = scale
    return np.asarray(expit(slope * np.asarray(evidence, dtype=float) + offset))


def fit_scale(evidence: npt.ArrayLike, right: npt.ArrayLike, *, offset: bool = True) -> tuple[float, float]:
    """Return slope and offset of the logistic regression of being right (1 or 0) on evidence, by maximum likelihood.

    The slope is not negative. A weak prior (a standard deviation of one per nat) keeps it finite where the evidence of
    right and wrong claims does not overlap. For differences between two claims the offset has to be zero.
    """
    from scipy.optimize import minimize

    x, y = np.asarray(evidence, dtype=float), np.asarray(right, dtype=float)

    def loss(scale: Values) -> float:
        logits = scale[0] * x + scale[1]
        return float(np.sum(np.logaddexp(0, logits) - y * logits) + scale[0] ** 2 / 2)

    bound = None if offset else 0.0
    slope, shift = minimize(loss, [0.1, 0.0], method="L-BFGS-B", bounds=[(0, None), (bound, bound)]).x
    return float(slope), float(shift)


def expected_calibration_error(probabilities: npt.ArrayLike, outcomes: npt.ArrayLike) -> float:
    """Return the mean distance of confidence from accuracy over ten bins of equal width, weighted by their size.

    (Naeini et al. 2015, "Obtaining well calibrated probabilities using Bayesian binning".)
    """
    p, y = np.asarray(probabilities, dtype=float), np.asarray(outcomes, dtype=float)
    bins = np.minimum((p * N_BINS).astype(int), N_BINS - 1)
    members = [bins == index for index in np.unique(bins)]
    return float(np.sum([abs(p[rows].mean() - y[rows].mean()) * rows.mean() for rows in members]))


def perfect_calibration_error(probabilities: npt.ArrayLike, *, seed: int = 0) -> float:
    """Return the mean calibration error of outcomes drawn with these very probabilities: what chance alone leaves."""
    rng, p = np.random.default_rng(seed), np.asarray(probabilities, dtype=float)
    return float(np.mean([expected_calibration_error(p, rng.random(p.shape) < p) for _ in range(N_RESAMPLES)]))


def brier(probabilities: npt.ArrayLike, outcomes: npt.ArrayLike) -> float:
    """Return the mean squared distance of probability from outcome (Brier 1950)."""
    return float(np.mean((np.asarray(probabilities, dtype=float) - np.asarray(outcomes, dtype=float)) ** 2))


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
