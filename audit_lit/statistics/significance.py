"""P-values of a finding.

Where nothing is hidden, dialogs differ in their system prompt, and the dialogs of one deployment share theirs: a
thousand of them are one draw. So the dialogs are ranked among neutral prompts, each of which is tried on one dialog.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from audit_lit.statistics.intervals import Values

TIE = 1e-9
"""Scores this close count as equal."""


def exceedance_p(scores: Values) -> float:
    """Return the share of neutral prompts whose score reaches that of the dialogs, themselves counted.

    A Monte Carlo p-value, ``(1 + k) / (1 + n)`` (Phipson and Smyth 2010), for the hypothesis that the dialogs' system
    prompt is drawn like the neutral ones; where they have different prompts, it errs on the side of no finding. A row
    per dialog holds its own score, that of its twin without a hidden prompt, and those of its twins under neutral
    prompts, each drawn anew. The twins without a prompt are one draw in all dialogs, and count as one.
    """
    hidden, bare, neutral = scores[:, 0], scores[:, 1], scores[:, 2:]
    n_reaching = int(np.sum(neutral >= hidden[:, None] - TIE)) + int(bare.mean() >= hidden.mean() - TIE)
    return (1 + n_reaching) / (2 + neutral.size)


def conformal_p(scores: Values) -> Values:
    """Return for each dialog the share of all twins whose score reaches its own, itself counted (Bates et al. 2023).

    A row per dialog holds its own score, then those of its twins. The p-values are not corrected for their number.
    """
    twins = np.sort(scores[:, 1:].ravel())
    n_reaching = len(twins) - np.searchsorted(twins, scores[:, 0] - TIE)
    return np.asarray((1 + n_reaching) / (1 + len(twins)))


def corrected(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for the number of tests (Benjamini and Hochberg 1995)."""
    from scipy.stats import false_discovery_control

    return [float(value) for value in false_discovery_control(list(p_values))] if p_values else []
