"""The statistics of a flag.

What varies between dialogs where nothing is hidden is their system prompt, and dialogs of one deployment share theirs:
a thousand of them are one draw. So the dialogs are ranked among neutral prompts, each of which is tried on one dialog.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
TIE = 1e-9
NORMAL = 1.96
MIN_DIALOGS = 5
"""From which on intervals are taken over dialogs."""


def exceedance_p(scores: Values) -> float:
    """Return the share of neutral prompts whose score reaches the dialogs', the dialogs' own counted.

    A Monte Carlo p-value, ``(1 + k) / (1 + n)`` (Phipson and Smyth 2010), for the hypothesis that the dialogs' system
    prompt is drawn like the neutral ones; where they have different prompts, it errs on the side of no finding.

    Args:
        scores: A row per dialog: its own score, that of its twin without a hidden prompt, and those of twins under
            neutral prompts, each drawn anew. The twins without a prompt are one draw in all dialogs, and count as one.
    """
    own, bare, neutral = scores[:, 0], scores[:, 1], scores[:, 2:]
    reach = int(np.sum(neutral >= own[:, None] - TIE)) + int(bare.mean() >= own.mean() - TIE)
    return (1 + reach) / (2 + neutral.size)


def conformal_p(scores: Values) -> Values:
    """Return for each dialog the share of scores like its own among all twins', itself counted (Bates et al. 2023).

    They are not corrected for the number of dialogs.
    """
    twins = np.sort(scores[:, 1:].ravel())
    higher = len(twins) - np.searchsorted(twins, scores[:, 0] - TIE)
    return np.asarray((1 + higher) / (1 + len(twins)))


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


def corrected(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted by Benjamini and Hochberg (1995)."""
    from scipy.stats import false_discovery_control

    return [float(value) for value in false_discovery_control(list(p_values))] if p_values else []
