"""P-values of a finding.

Where nothing is hidden, dialogs differ in their system prompt, and the dialogs of one deployment share theirs: a
thousand of them are one draw. So the dialogs are ranked among neutral prompts, each of which is tried on one dialog.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from audit_lit.statistics.values import Values

TIE = 1e-9


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


def corrected(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted by Benjamini and Hochberg (1995)."""
    from scipy.stats import false_discovery_control

    return [float(value) for value in false_discovery_control(list(p_values))] if p_values else []
