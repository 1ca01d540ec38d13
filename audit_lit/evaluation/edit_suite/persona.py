"""A persona given by an edit, as the decoder reads it and as the visible text shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from audit_lit.edits.checks.check import measure_effect
from audit_lit.edits.goal import goal_of
from audit_lit.edits.objective import Objective
from audit_lit.edits.weights import edited_target
from audit_lit.evaluation.edit_suite.plan import Plan
from audit_lit.evaluation.edit_suite.speech import Condition
from audit_lit.evaluation.edit_suite.tradeoff import Point, compared, trace_all

FACTORS = (0.5, 1.0, 1.5, 2.0)
MAX_RISE = 0.5
"""Largest relative rise of perplexity. A persona's words are less likely to the unedited model even where fluent."""
MAX_NEW_TOKENS = 30


def persona(plan: Plan, methods: Sequence[str]) -> dict[str, Any]:
    """Return how far each condition's replies are what the goal asks for, in nats per token, by their cost.

    ``decoder_loss`` is the decoder's loss on the wanted answers under each edit: what the edit was made to lower, here
    in dialogs that it was not made with.
    """
    target, seed = plan.session.target, plan.seed
    conditions = plan.conditions([name for name in methods if name != "gradient"])
    prompt = str(conditions["prompting"].system)
    plain = measure_effect(target, plan.dialogs, prompt, _replies(plan, Condition()))

    def point(condition: Condition, factor: float) -> Point:
        effect = measure_effect(target, plan.dialogs, prompt, _replies(plan, condition.scaled(factor)))
        differences = np.nan_to_num(effect.values - plain.values)
        figures = {"wanted": effect.wanted, "perplexity": effect.perplexity}
        return Point(factor, differences, effect.perplexity / plain.perplexity - 1, figures)

    curves = trace_all(conditions, point, FACTORS, MAX_RISE)
    return {
        **compared(curves, plan.recipe.method, MAX_RISE, methods=methods, seed=seed),
        "unedited": {"wanted": plain.wanted, "perplexity": plain.perplexity},
        "decoder_loss": _losses(plan, conditions),
    }


def _replies(plan: Plan, condition: Condition) -> list[str]:
    return condition.replies(plan.session.target, plan.dialogs, MAX_NEW_TOKENS, plan.seed)


def _losses(plan: Plan, conditions: dict[str, Condition]) -> dict[str, float]:
    """Return the decoder's loss on the wanted answers, in nats per token, under each edit."""
    session = plan.session
    objective = Objective.of(session, plan.dialogs, goal_of(plan.recipe.goal, session, plan.dialogs))
    losses = {"unedited": objective.value()}
    for name, condition in conditions.items():
        if condition.edit is not None:
            target, hooks = edited_target(session.target, condition.edit)
            losses[name] = objective.on(target).value(hooks)
    return losses
