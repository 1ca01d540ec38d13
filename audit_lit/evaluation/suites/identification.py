"""Which of twenty prompts is the hidden one?"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from audit_lit.answers.controls import ACTIVATIONS
from audit_lit.decoder.decoder import text_baselines
from audit_lit.evaluation.conditions import NO_ACTIVATION, Conditions, beside
from audit_lit.statistics.intervals import Values
from audit_lit.statistics.scores import log_mean_exp, top_k

N_CANDIDATES = 20


def identification(
    conditions: Conditions, question: str, candidates: Sequence[str], *, marginals: Values | None = None, seed: int = 0
) -> dict[str, Any]:
    """Rank each dialog's own prompt among 20 by its pointwise mutual information with what is read, and with controls.

    The candidates are the dialogs' hidden prompts, or their labels, as answers to the question. The marginals are their
    log-likelihood under the decoder's ``reference``. None takes the mean likelihood over the other dialogs at hand, as
    text baselines always do.
    """
    chosen = draw_candidates(len(candidates), seed + 2)  # another order than that of the user lines
    scores = {name: _scores(conditions, name, question, candidates, chosen, marginals) for name in conditions.names}
    hits = {name: top_k(rows, 1) for name, rows in scores.items()}
    return {
        **beside(hits, "top1"),
        "top5": float(top_k(scores[ACTIVATIONS], 5).mean()),
        "chance": 1 / len(chosen[0]),
        "n": len(candidates),
    }


def draw_candidates(n: int, seed: int) -> list[list[int]]:
    """Return for each dialog its own candidate and 19 others; every candidate is another's 19 times."""
    order = random.Random(seed).sample(range(n), n)
    ranks = {index: rank for rank, index in enumerate(order)}
    size = min(N_CANDIDATES, n)
    return [[order[(ranks[index] + step) % n] for step in range(size)] for index in range(n)]


def _scores(
    conditions: Conditions,
    name: str,
    question: str,
    candidates: Sequence[str],
    chosen: list[list[int]],
    marginals: Values | None,
) -> list[Values]:
    """Score each dialog's candidates, its own first.

    Without activations nothing depends on the dialog: there a prompt's likelihood alone ranks it.
    """
    if name == NO_ACTIVATION:
        alone = conditions.totals(name, 0, question, candidates)
        return [alone[indices] for indices in chosen]
    raw = [
        conditions.totals(name, row, question, [candidates[index] for index in indices])
        for row, indices in enumerate(chosen)
    ]
    if marginals is None or name in text_baselines(conditions.decoder):
        return less_others(raw, chosen)
    return [values - marginals[indices] for values, indices in zip(raw, chosen, strict=True)]


def less_others(raw: Sequence[Values], chosen: Sequence[Sequence[int]]) -> list[Values]:
    """Subtract from each score the same candidate's marginal over third dialogs: neither this one nor its own."""
    by_dialog: dict[int, dict[int, float]] = {}
    for row, indices in enumerate(chosen):
        for candidate, value in zip(indices[1:], raw[row][1:], strict=True):
            by_dialog.setdefault(candidate, {})[row] = float(value)

    def marginal(candidate: int, row: int) -> float:
        third = [value for other, value in by_dialog.get(candidate, {}).items() if other != row]
        return float(log_mean_exp(third)) if third else 0.0

    return [
        raw[row] - np.array([marginal(candidate, row) for candidate in indices]) for row, indices in enumerate(chosen)
    ]
