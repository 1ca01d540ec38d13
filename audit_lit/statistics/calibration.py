"""From evidence in nats to probabilities, and how well probabilities are calibrated."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logsumexp

from audit_lit.statistics.ranking import N_RESAMPLES
from audit_lit.statistics.values import Values

N_BINS = 10


def log_mean_exp(nats: npt.ArrayLike) -> Values:
    """Return the logarithm of the mean probability over the first dimension."""
    values = np.asarray(nats, dtype=float)
    return np.asarray(logsumexp(values, axis=0) - np.log(len(values)))


def probability(evidence: npt.ArrayLike, scale: tuple[float, float]) -> Values:
    """Return ``1 / (1 + exp(-(slope * evidence + offset)))``."""
    slope, offset = scale
    return np.asarray(expit(slope * np.asarray(evidence, dtype=float) + offset))


def fit_scale(evidence: npt.ArrayLike, right: npt.ArrayLike, *, offset: bool = True) -> tuple[float, float]:
    """Return slope and offset of the logistic regression of being right on evidence, by maximum likelihood.

    The slope is not negative. A weak prior (a standard deviation of one per nat) keeps it finite where the evidence of
    right and wrong claims does not overlap.

    Args:
        evidence: Nats in favour of each claim.
        right: 1 for each claim that is right, 0 for the others.
        offset: Whether an offset is fitted. Without it, it is zero: for differences between two claims.
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
