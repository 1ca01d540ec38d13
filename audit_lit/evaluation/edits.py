"""Suite ``edits``: what the decoder's gradient makes of a model, against its cost, beside controls of equal size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audit_lit import __version__
from audit_lit.auditor import Auditor
from audit_lit.dialog import Dialog
from audit_lit.edits.check import EDIT, controls_of
from audit_lit.edits.make import shuffled_edit
from audit_lit.edits.recipe import EditRecipe, Settings, line_dialogs, load_edit_recipe
from audit_lit.edits.weights import Edit
from audit_lit.errors import EditError
from audit_lit.evaluation.persona import persona
from audit_lit.evaluation.sentiment import sentiment
from audit_lit.evaluation.speech import Condition
from audit_lit.evaluation.stereotypes import stereotypes
from audit_lit.hooks import ActivationEdit

MEASURES = {
    "positive-sentiment": sentiment,
    "negative-sentiment": sentiment,
    "persona": persona,
    "debias": stereotypes,
}
"""What measures the edits of each shipped recipe."""
METHODS = ("vector", "lowrank", "weights", "gradient")
"""Measured beside each other; the recipe's own is compared with its controls."""
SCHEMA = 1


@dataclass(frozen=True)
class Plan:
    """What is measured, and on what.

    Attributes:
        auditor: Target and decoder.
        recipe: Says what is wanted; its method gives one edit for every dialog, as hooks.
        dialogs: What the model is made to answer; others than edits are made with.
        folders: Data folders, for what needs data.
        n_seeds: Replies to each dialog, where sentiment is measured.
        seed: Of every draw.
        overrides: Settings over the recipe's, for every method.
    """

    auditor: Auditor
    recipe: EditRecipe
    dialogs: Sequence[Dialog]
    folders: Sequence[Path]
    n_seeds: int
    seed: int
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def conditions(self, methods: Sequence[str] = METHODS) -> dict[str, Condition]:
        """Return the edit as the recipe makes it, as other methods do, and every control, by name."""
        making, target, own = line_dialogs(self.recipe.lines), self.auditor.target, self.recipe.method
        edit = self._made(own, making) if own in ("vector", "lowrank") else None
        if not isinstance(edit, ActivationEdit):
            raise EditError(f"recipe {self.recipe.name!r} is of method {own!r}; expected vector or lowrank here.")
        prompt, shuffled = edit.origin.want, self._shuffled(edit, making)
        controls = controls_of(edit, target, making, prompt, shuffled, self.seed)
        found: dict[str, Edit] = {own: controls.pop(EDIT)}
        found |= {name: self._made(name, making) for name in methods if name not in (own, "gradient")} | controls
        conditions = {name: Condition(one) for name, one in found.items()}
        if "gradient" in methods:
            conditions["gradient"] = Condition(each=self._each())
        return conditions | {"prompting": Condition(system=prompt)}

    def settings(self, method: str) -> dict[str, Any]:
        """Return how edits of a method are made: by the recipe, but for what suits another method better."""
        other = OWN.get(method, {}) if method != self.recipe.method else {}
        own = {name: value for name, value in self.overrides.items() if name in Settings.model_fields}
        return self.recipe.settings().model_dump() | other | own | {"method": method, "seed": self.seed}

    def _made(self, method: str, dialogs: Sequence[Dialog]) -> Edit:
        words: dict[str, Any] = {"prompt": self.recipe.prompt, "contrast": self.recipe.contrast}
        return self.auditor.edit(self.recipe.want, dialogs, **words, **self.settings(method))

    def _shuffled(self, edit: Edit, dialogs: Sequence[Dialog]) -> Edit:
        target, decoder, readers = self.auditor.target, self.auditor.decoder, self.auditor.readers
        return shuffled_edit(edit, target, decoder, dialogs, readers=readers)

    def _each(self) -> dict[str, ActivationEdit]:
        made = {dialog[-1]["content"]: self._made("gradient", [dialog]) for dialog in self.dialogs}
        return {line: edit for line, edit in made.items() if isinstance(edit, ActivationEdit)}


OWN: dict[str, dict[str, Any]] = {
    "lowrank": {"strength": 0.2},  # a bound that residuals reach half of
    "weights": {"rank": 8},
    "gradient": {"strength": 0.5, "steps": 6, "lr": 0.3},  # a few positions only, so each is moved further
}
"""Settings that differ from the recipe's for methods of another nature."""


def edits(
    auditor: Auditor,
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

    Args:
        auditor: Target and decoder.
        recipes: Names from ``MEASURES``; none takes all, but ``debias`` only if there are data for it.
        folders: Data folders: CrowS-Pairs for ``debias``.
        limit: How many neutral lines are answered.
        n_seeds: Replies to each.
        methods: Those measured beside the recipes' own.
        settings: Over the recipes' own.
        seed: Of every draw.

    Raises:
        EditError: If a recipe is not among them, or has no data.
    """
    names = [name.removeprefix("edits/") for name in recipes]
    if unknown := [name for name in names if name not in MEASURES]:
        raise EditError(f"no part of this suite measures {unknown[0]!r}; expected some of {', '.join(MEASURES)}.")
    dialogs, overrides = line_dialogs(held_out=True)[:limit], dict(settings or {})
    plans = {
        name: Plan(auditor, load_edit_recipe(name, overrides), dialogs, folders, n_seeds, seed, overrides)
        for name in names or MEASURES
    }
    measured = ((name, MEASURES[name](plan, methods)) for name, plan in plans.items())
    found = {name: document for name, document in measured if document is not None}
    if missing := [name for name in names if name not in found]:
        raise EditError(f"there is nothing to measure {missing[0]!r} with; name a folder with CrowS-Pairs' CSV file.")
    return {
        "schema": SCHEMA,
        "suite": "edits",
        **found,
        "manifest": {
            "audit_lit": __version__,
            "decoder": auditor.decoder.protocol.name,
            "target": auditor.target.name,
            "target_fingerprint": auditor.target.fingerprint(),
            "recipes": {name: plan.recipe.model_dump(mode="json") for name, plan in plans.items()},
            "settings": {name: {method: plan.settings(method) for method in methods} for name, plan in plans.items()},
            "n_lines": len(dialogs),
            "n_seeds": n_seeds,
            "seed": seed,
        },
    }
