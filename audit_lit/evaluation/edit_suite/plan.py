"""The conditions of the suite ``edits``: the recipe's edit, other methods, and every control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audit_lit.answers.session import Session
from audit_lit.chat.dialog import Dialog
from audit_lit.edits.checks.controls import EDIT, controls_of, shuffled_edit
from audit_lit.edits.make import edit
from audit_lit.edits.recipe import EditRecipe, EditSettings, line_dialogs
from audit_lit.edits.weights import Edit
from audit_lit.errors import EditError
from audit_lit.evaluation.edit_suite.speech import Condition
from audit_lit.hooks import ActivationEdit

METHODS = ("vector", "lowrank", "weights", "gradient")
"""The methods that are measured beside each other; the recipe's own is compared with its controls."""
METHOD_SETTINGS: dict[str, dict[str, Any]] = {
    "lowrank": {"strength": 0.2},  # a bound that residuals reach half of
    "weights": {"rank": 8},
    "gradient": {"strength": 0.5, "steps": 6, "lr": 0.3},  # a few positions only, so each is moved further
}
"""Settings that differ from the recipe's for methods of another nature."""


@dataclass(frozen=True)
class Plan:
    """What is measured of one recipe, and in which dialogs."""

    session: Session
    recipe: EditRecipe
    dialogs: Sequence[Dialog]
    """The dialogs that the model answers; others than edits are made with."""
    folders: Sequence[Path]
    n_seeds: int
    """Number of replies to each dialog, where sentiment is measured."""
    seed: int
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Settings over the recipe's, for every method."""

    def conditions(self, methods: Sequence[str] = METHODS) -> dict[str, Condition]:
        """Return the edit as the recipe makes it, as other methods do, and every control, by name."""
        made_in, method = line_dialogs(self.recipe.lines), self.recipe.method
        recipe_edit = self._make(method, made_in) if method in ("vector", "lowrank") else None
        if not isinstance(recipe_edit, ActivationEdit):
            raise EditError(f"recipe {self.recipe.name!r} is of method {method!r}; expected vector or lowrank here.")
        prompt, shuffled = recipe_edit.origin.goal, shuffled_edit(recipe_edit, self.session, made_in)
        controls = controls_of(recipe_edit, self.session.target, made_in, prompt, shuffled, self.seed)
        edits: dict[str, Edit] = {method: controls.pop(EDIT)}
        edits |= {name: self._make(name, made_in) for name in methods if name not in (method, "gradient")} | controls
        conditions = {name: Condition(edit) for name, edit in edits.items()}
        if "gradient" in methods:
            made = {dialog[-1]["content"]: self._make("gradient", [dialog]) for dialog in self.dialogs}
            each = {line: edit for line, edit in made.items() if isinstance(edit, ActivationEdit)}
            conditions["gradient"] = Condition(each=each)
        return conditions | {"prompting": Condition(system=prompt)}

    def settings(self, method: str) -> dict[str, Any]:
        """Return the settings of a method's edits: the recipe's, but for those that suit another method better."""
        for_method = METHOD_SETTINGS.get(method, {}) if method != self.recipe.method else {}
        overrides = {name: value for name, value in self.overrides.items() if name in EditSettings.model_fields}
        fixed = {"method": method, "seed": self.seed}
        return self.recipe.settings().model_dump() | for_method | overrides | fixed

    def _make(self, method: str, dialogs: Sequence[Dialog]) -> Edit:
        words: dict[str, Any] = {"prompt": self.recipe.prompt, "contrast": self.recipe.contrast}
        return edit(self.session, self.recipe.goal, dialogs, self.settings(method), **words)
