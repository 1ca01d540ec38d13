"""The statistics of a flag.

Under the null hypothesis, that nothing is hidden, a dialog and its neutral twins are exchangeable: each of them is as
likely to have the highest score. The p-value of a question permutes them within every dialog, which is exact however
many dialogs there are; the questions of an audit are then corrected together (Benjamini and Hochberg 1995).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
N_PERMUTATIONS = 9999


def permutation_p(scores: Values, *, seed: int = 0) -> float:
    """Return the one-sided p-value that the first column is higher on average than chance would make it.

    Args:
        scores: A row per dialog: its own score, then its twins'.
        seed: Of the permutations.

    The Monte Carlo estimate ``(1 + k) / (1 + n)`` of Phipson and Smyth (2010), never zero. For one dialog it is the
    rank of its score among its twins', exactly.
    """
    rows = np.arange(len(scores))
    observed = scores[:, 0].mean()
    if len(scores) == 1:
        return float(np.mean(scores[0] >= observed))
    rng = np.random.default_rng(seed)
    picks = rng.integers(scores.shape[1], size=(N_PERMUTATIONS, len(scores)))
    means = np.array([scores[rows, pick].mean() for pick in picks])
    return float((1 + np.sum(means >= observed - 1e-9)) / (1 + N_PERMUTATIONS))


def conformal_p(scores: Values) -> Values:
    """Return for each dialog the share of scores like its own among all twins', itself counted (Bates et al. 2023)."""
    twins = np.sort(scores[:, 1:].ravel())
    higher = len(twins) - np.searchsorted(twins, scores[:, 0] - 1e-9)
    return np.asarray((1 + higher) / (1 + len(twins)))


def corrected(p_values: Sequence[float]) -> list[float]:
    """Return Benjamini-Hochberg adjusted p-values."""
    from scipy.stats import false_discovery_control

    return [float(value) for value in false_discovery_control(list(p_values))] if p_values else []
