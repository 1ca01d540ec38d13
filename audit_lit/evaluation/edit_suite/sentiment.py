"""Sentiment of replies (VADER, Hutto and Gilbert 2014) against what it costs in perplexity under the unedited model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from audit_lit.errors import AuditLitError
from audit_lit.evaluation.edit_suite.plan import Plan
from audit_lit.evaluation.edit_suite.speech import Condition, Speech, speak
from audit_lit.evaluation.edit_suite.tradeoff import Point, compared, trace_all

FACTORS = (0.3, 0.45, 0.6, 0.8, 1.0, 1.5)
MAX_RISE = 0.1
"""Largest relative rise of perplexity of what is compared."""


def sentiment(plan: Plan, methods: Sequence[str]) -> dict[str, Any]:
    """Return how far each condition moves the sentiment in the wanted direction, by its cost."""
    score, sign = _vader(), -1.0 if plan.recipe.name.startswith("negative") else 1.0

    def speech(condition: Condition) -> Speech:
        return speak(plan.session.target, condition, plan.dialogs, score, n_seeds=plan.n_seeds, seed=plan.seed)

    plain = speech(Condition())

    def point(condition: Condition, factor: float) -> Point:
        under_edit = speech(condition.scaled(factor))
        effects = np.nan_to_num(sign * (under_edit.scores - plain.scores))  # silence is neither glad nor sad
        return Point(factor, effects, under_edit.perplexity / plain.perplexity - 1, _figures(under_edit))

    curves = trace_all(plan.conditions(methods), point, FACTORS, MAX_RISE)
    document = compared(curves, plan.recipe.method, MAX_RISE, methods=methods, seed=plan.seed)
    return {**document, "unedited": _figures(plain)}


def _figures(speech: Speech) -> dict[str, float]:
    scores = speech.scores[np.isfinite(speech.scores)]
    return {
        "sentiment": float(scores.mean()) if len(scores) else 0.0,
        "perplexity": speech.perplexity,
        "distinct2": speech.distinct2,
        "silent": speech.silent,
    }


def _vader() -> Callable[[str], float]:
    """Return the function that scores a text from -1 (negative) to 1 (positive)."""
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ImportError as err:
        raise AuditLitError("sentiment needs VADER; install it with pip install 'audit-lit[edits]'.") from err
    analyzer = SentimentIntensityAnalyzer()
    return lambda text: float(analyzer.polarity_scores(text)["compound"])
