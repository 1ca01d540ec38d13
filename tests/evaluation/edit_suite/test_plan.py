"""The plan of the suite ``edits``: settings of each method, and recipes that it cannot measure."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.edit_suite import CONTROLS, DIALOGS

from audit_lit.edits.recipe import load_edit_recipe
from audit_lit.errors import EditError
from audit_lit.evaluation.edit_suite import suite
from audit_lit.evaluation.edit_suite.plan import Plan


def test_what_the_caller_sets_goes_before_what_suits_a_method(session: Any) -> None:
    plan = Plan(session, load_edit_recipe("persona"), DIALOGS, [], 1, 0, {"rank": 2, "want": "Be."})
    assert plan.settings("weights")["rank"] == 2 and plan.settings("lowrank")["strength"] == 0.2
    assert "want" not in plan.settings("vector") and plan.settings("vector")["strength"] == 0.15


def test_a_method_that_the_recipe_names_keeps_the_recipes_settings(session: Any) -> None:
    recipe = load_edit_recipe("persona", {"method": "lowrank"})
    settings = Plan(session, recipe, DIALOGS, [], 1, seed=4).settings("lowrank")
    assert (settings["strength"], settings["seed"], settings["method"]) == (recipe.strength, 4, "lowrank")


def test_every_control_is_a_condition(session: Any) -> None:
    plan = Plan(session, suite.load_edit_recipe("persona"), DIALOGS, [], 1, 0)
    conditions = plan.conditions(["gradient"])
    assert set(conditions) == CONTROLS | {"vector", "gradient"}
    assert conditions["prompting"].system == conditions["vector"].edit.origin.goal
    assert set(conditions["gradient"].each) == {dialog[-1]["content"] for dialog in DIALOGS}


@pytest.mark.parametrize("method", ["weights", "gradient"])
def test_an_edit_that_is_not_hooks_for_every_dialog_is_refused(session: Any, method: str) -> None:
    plan = Plan(session, load_edit_recipe("persona", {"method": method}), DIALOGS, [], 1, 0)
    with pytest.raises(EditError, match=rf"is of method '{method}'; expected vector or lowrank"):
        plan.conditions()
