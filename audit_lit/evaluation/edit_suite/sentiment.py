"""Sentiment of replies (VADER, Hutto and Gilbert 2014) against what it costs in perplexity under the unedited model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from audit_lit.errors import AuditLitError
from audit_lit.evaluation.edit_suite.speech import Condition, Speech, speak
from audit_lit.evaluation.edit_suite.tradeoff import Point, compared, trace_all

if TYPE_CHECKING:
    from audit_lit.evaluation.edit_suite.plan import Plan

FACTORS = (0.3, 0.45, 0.6, 0.8, 1.0, 1.5)
MAX_RISE = 0.1
"""Of perplexity, for what is compared."""


def sentiment(plan: Plan, methods: Sequence[str]) -> dict[str, Any]:
    """Return how far each condition moves the sentiment in the wanted direction, by its cost.

    Raises:
        AuditLitError: If vaderSentiment is not installed.
    """
    score, sign = _vader(), -1.0 if plan.recipe.name.startswith("negative") else 1.0
    how: dict[str, Any] = {"n_seeds": plan.n_seeds, "seed": plan.seed}
    plain = speak(plan.session.target, Condition(), plan.dialogs, score, **how)

    def point(condition: Condition, factor: float) -> Point:
        said = speak(plan.session.target, condition.scaled(factor), plan.dialogs, score, **how)
        effects = np.nan_to_num(sign * (said.scores - plain.scores))  # silence is neither glad nor sad
        return Point(factor, effects, said.perplexity / plain.perplexity - 1, _figures(said))

    curves = trace_all(plan.conditions(methods), point, FACTORS, MAX_RISE)
    document = compared(curves, plan.recipe.method, MAX_RISE, methods=methods, seed=plan.seed)
    return {**document, "unedited": _figures(plain)}


def _figures(said: Speech) -> dict[str, float]:
    scores = said.scores[np.isfinite(said.scores)]
    return {
        "sentiment": float(scores.mean()) if len(scores) else 0.0,
        "perplexity": said.perplexity,
        "distinct2": said.distinct2,
        "silent": said.silent,
    }


def _vader() -> Callable[[str], float]:
    """Return what scores a text from -1 (negative) to 1 (positive)."""
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ImportError as err:
        raise AuditLitError("sentiment needs VADER; install it with pip install 'audit-lit[edits]'.") from err
    analyzer = SentimentIntensityAnalyzer()
    return lambda text: float(analyzer.polarity_scores(text)["compound"])
