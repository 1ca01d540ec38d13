"""The conditions of the suite ``edits``: the recipe's edit, other methods, and every control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audit_lit.answers.session import Session
from audit_lit.chat.dialog import Dialog
from audit_lit.edits.checks.check import EDIT, controls_of
from audit_lit.edits.checks.controls import shuffled_edit
from audit_lit.edits.make import edit
from audit_lit.edits.recipe import EditRecipe, EditSettings, line_dialogs
from audit_lit.edits.weights import Edit
from audit_lit.errors import EditError
from audit_lit.evaluation.edit_suite.speech import Condition
from audit_lit.hooks import ActivationEdit

METHODS = ("vector", "lowrank", "weights", "gradient")
"""Measured beside each other; the recipe's own is compared with its controls."""


@dataclass(frozen=True)
class Plan:
    """What is measured, and on what.

    Attributes:
        session: Target and decoder.
        recipe: Says what is wanted; its method gives one edit for every dialog, as hooks.
        dialogs: What the model is made to answer; others than edits are made with.
        folders: Data folders, for what needs data.
        n_seeds: Replies to each dialog, where sentiment is measured.
        seed: Of every draw.
        overrides: Settings over the recipe's, for every method.
    """

    session: Session
    recipe: EditRecipe
    dialogs: Sequence[Dialog]
    folders: Sequence[Path]
    n_seeds: int
    seed: int
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def conditions(self, methods: Sequence[str] = METHODS) -> dict[str, Condition]:
        """Return the edit as the recipe makes it, as other methods do, and every control, by name."""
        making, target, own = line_dialogs(self.recipe.lines), self.session.target, self.recipe.method
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
        own = {name: value for name, value in self.overrides.items() if name in EditSettings.model_fields}
        return self.recipe.settings().model_dump() | other | own | {"method": method, "seed": self.seed}

    def _made(self, method: str, dialogs: Sequence[Dialog]) -> Edit:
        words: dict[str, Any] = {"prompt": self.recipe.prompt, "contrast": self.recipe.contrast}
        return edit(self.session, self.recipe.goal, dialogs, self.settings(method), **words)

    def _shuffled(self, edit: Edit, dialogs: Sequence[Dialog]) -> Edit:
        return shuffled_edit(edit, self.session, dialogs)

    def _each(self) -> dict[str, ActivationEdit]:
        made = {dialog[-1]["content"]: self._made("gradient", [dialog]) for dialog in self.dialogs}
        return {line: edit for line, edit in made.items() if isinstance(edit, ActivationEdit)}


OWN: dict[str, dict[str, Any]] = {
    "lowrank": {"strength": 0.2},  # a bound that residuals reach half of
    "weights": {"rank": 8},
    "gradient": {"strength": 0.5, "steps": 6, "lr": 0.3},  # a few positions only, so each is moved further
}
"""Settings that differ from the recipe's for methods of another nature."""
