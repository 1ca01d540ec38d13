"""Suite ``edits``: what the decoder's gradient makes of a model, against its cost, beside controls of equal size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from audit_lit.answers.session import Session
from audit_lit.edits.recipe import line_dialogs, load_edit_recipe
from audit_lit.errors import EditError
from audit_lit.evaluation.edit_suite.persona import persona
from audit_lit.evaluation.edit_suite.plan import METHODS, Plan
from audit_lit.evaluation.edit_suite.sentiment import sentiment
from audit_lit.evaluation.edit_suite.stereotypes import stereotypes

MEASURES = {"positive-sentiment": sentiment, "negative-sentiment": sentiment, "persona": persona, "debias": stereotypes}
"""The function that measures the edits of each shipped recipe."""
SCHEMA = 1


def edits(
    session: Session,
    *,
    recipes: Sequence[str] = (),
    folders: Sequence[Path] = (),
    limit: int = 50,
    n_seeds: int = 3,
    methods: Sequence[str] = METHODS,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure the edits of some recipes and return one JSON-ready document.

    No recipes are all of ``MEASURES``, but ``debias`` only if CrowS-Pairs is among the data folders. ``limit`` neutral
    lines are answered ``n_seeds`` times. Settings go before the recipes' own.
    """
    names = [name.removeprefix("edits/") for name in recipes]
    if unknown := [name for name in names if name not in MEASURES]:
        raise EditError(f"no part of this suite measures {unknown[0]!r}; expected some of {', '.join(MEASURES)}.")
    dialogs, overrides = line_dialogs(held_out=True)[:limit], dict(settings or {})
    plans = {
        name: Plan(session, load_edit_recipe(name, overrides), dialogs, folders, n_seeds, seed, overrides)
        for name in names or MEASURES
    }
    measured = {name: MEASURES[name](plan, methods) for name, plan in plans.items()}
    if missing := [name for name in names if measured[name] is None]:
        raise EditError(f"there is nothing to measure {missing[0]!r} with; name a folder with CrowS-Pairs' CSV file.")
    return {
        "schema": SCHEMA,
        "suite": "edits",
        **{name: document for name, document in measured.items() if document is not None},
        "manifest": {
            "audit_lit": version("audit-lit"),
            "decoder": session.decoder.config.name,
            "target": session.target.name,
            "target_fingerprint": session.target.fingerprint(),
            "recipes": {name: plan.recipe.model_dump(mode="json") for name, plan in plans.items()},
            "settings": {name: {method: plan.settings(method) for method in methods} for name, plan in plans.items()},
            "n_lines": len(dialogs),
            "n_seeds": n_seeds,
            "seed": seed,
        },
    }
