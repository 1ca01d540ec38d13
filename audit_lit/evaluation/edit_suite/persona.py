"""A persona given by an edit, as the decoder reads it and as the visible text shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from audit_lit.edits.checks.check import effect
from audit_lit.edits.goal import goal_of
from audit_lit.edits.objective import Objective
from audit_lit.edits.weights import edited_target
from audit_lit.evaluation.edit_suite.plan import Plan
from audit_lit.evaluation.edit_suite.speech import Condition
from audit_lit.evaluation.edit_suite.tradeoff import Point, compared, trace_all

FACTORS = (0.5, 1.0, 1.5, 2.0)
MAX_RISE = 0.5
"""Of perplexity: a persona's words are less likely to the unedited model even where they are fluent."""


def persona(plan: Plan, methods: Sequence[str]) -> dict[str, Any]:
    """Return how far each condition's replies are what the wanted prompt asks for, in nats per token, by their cost.

    ``decoder_loss`` is the decoder's own on the wanted answers under each edit: what it was made to lower, here in
    dialogs that it was not made with.
    """
    target, seed = plan.session.target, plan.seed
    conditions = plan.conditions([name for name in methods if name != "gradient"])
    prompt = str(conditions["prompting"].system)
    plain = effect(target, plan.dialogs, prompt, Condition().replies(target, plan.dialogs, 30, seed))

    def point(condition: Condition, factor: float) -> Point:
        said = condition.scaled(factor).replies(target, plan.dialogs, 30, seed)
        found = effect(target, plan.dialogs, prompt, said)
        more = {"wanted": found.wanted, "perplexity": found.perplexity}
        return Point(factor, np.nan_to_num(found.values - plain.values), found.perplexity / plain.perplexity - 1, more)

    curves = trace_all(conditions, point, FACTORS, MAX_RISE)
    document = compared(curves, plan.recipe.method, MAX_RISE, methods=methods, seed=seed)
    return {**document, "unedited": {"wanted": plain.wanted, "perplexity": plain.perplexity}} | {
        "decoder_loss": _losses(plan, conditions)
    }


def _losses(plan: Plan, conditions: dict[str, Condition]) -> dict[str, float]:
    """Return the decoder's loss on the wanted answers, in nats per token, under each edit."""
    session = plan.session
    goal = goal_of(plan.recipe.goal, session, plan.dialogs)
    unedited = Objective.of(session, plan.dialogs, goal)
    losses = {"unedited": unedited.value()}
    for name, condition in conditions.items():
        if condition.edit is not None:
            target, hooks = edited_target(session.target, condition.edit)
            losses[name] = unedited.on(target).value(hooks)
    return losses
