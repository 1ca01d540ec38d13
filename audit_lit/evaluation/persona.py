"""A persona given by an edit, as the decoder reads it and as the visible text shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from audit_lit.edits.check import effect
from audit_lit.edits.objective import Objective
from audit_lit.edits.wants import want_of
from audit_lit.edits.weights import edited
from audit_lit.evaluation.speech import Condition
from audit_lit.evaluation.tradeoff import Point, compared, trace_all

if TYPE_CHECKING:
    from audit_lit.evaluation.edits import Plan

FACTORS = (0.5, 1.0, 1.5, 2.0)
MAX_RISE = 0.5
"""Of perplexity: a persona's words are less likely to the unedited model even where they are fluent."""


def persona(plan: Plan, methods: Sequence[str]) -> dict[str, Any]:
    """Return how far each condition's replies are what the wanted prompt asks for, in nats per token, by their cost.

    ``decoder_loss`` is the decoder's own on the wanted answers under each edit: what it was made to lower, here in
    dialogs that it was not made with.
    """
    target, seed = plan.auditor.target, plan.seed
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
    auditor = plan.auditor
    want = want_of(plan.recipe.want, auditor.target, auditor.decoder, plan.dialogs)
    plain = Objective.of(auditor.target, auditor.decoder, plan.dialogs, want)
    losses = {"unedited": plain.value()}
    for name, condition in conditions.items():
        if condition.edit is not None:
            target, hooks = edited(auditor.target, condition.edit)
            losses[name] = Objective.of(target, auditor.decoder, plan.dialogs, want).value(hooks)
    return losses
