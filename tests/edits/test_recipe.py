"""Recipes of edits: the shipped ones, overrides, goals in files, what an edit stores, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.edits import ANY, DIALOGS, WISH

from audit_lit import Auditor, __version__
from audit_lit.edits.goal import goal_of
from audit_lit.edits.recipe import (
    EditRecipe,
    Provenance,
    edit_settings,
    line_dialogs,
    load_edit_recipe,
    load_goal,
    settings_of,
)
from audit_lit.errors import EditError, RecipeError
from audit_lit.recipes import neutral_lines

PAIRS = (("Who?", "A pirate."), ("What?", "Be a pirate."), ("And?", "A pirate."))
SHIPPED = ("positive-sentiment", "negative-sentiment", "persona", "debias", "honesty")
SETTINGS = ["method", "layers", "strength", "steps", "lr", "batch_size", "rank", "local", "budget", "precision", "seed"]
FACTS = ["pairs", "contrast", "decoder", "decoder_training_data", "reveal", "dialogs", "audit_lit"]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_load(auditor: Auditor, name: str) -> None:
    recipe = load_edit_recipe(name)
    assert recipe.name == name and recipe.about.endswith(".") and recipe.settings().method == "vector"
    assert goal_of(recipe.goal, auditor.session, DIALOGS).pairs
    assert isinstance(recipe.goal, str) or recipe.prompt


def test_overrides_go_over_the_recipe(tmp_path: Path) -> None:
    recipe = load_edit_recipe("positive-sentiment", {"goal": "Be a chef.", "strength": 0.3, "method": "lowrank"})
    assert (recipe.goal, recipe.layers) == ("Be a chef.", (10,))
    assert recipe.settings() == edit_settings({"layers": (10,), "strength": 0.3, "method": "lowrank"})
    path = tmp_path / "own.yaml"
    path.write_text("name: own\nabout: x\ngoal: Be glad.\nlines: [Hi, Ho]\n")
    assert line_dialogs(load_edit_recipe(path).lines) == line_dialogs(("Hi", "Ho"))


def test_files_and_overrides_may_call_the_goal_want(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("name: own\nabout: x\nwant: Be glad.\nprompt: Talk gladly.\n")
    assert load_edit_recipe(path) == EditRecipe.of(
        {"name": "own", "about": "x", "goal": "Be glad.", "prompt": "Talk gladly."}
    )
    changed = load_edit_recipe(path, {"want": "Be sad."})
    assert (changed.goal, changed.prompt) == ("Be sad.", None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name: own\nabout: x\n", "makes no edit: it has no 'goal'"),
        ("name: own\nabout: x\ngoal: a\nstrenght: 1\n", "unknown key 'strenght', did you mean 'strength'"),
        ("name: own\nabout: x\ngoal: a\nstrength: .nan\n", "strength: .*finite"),
        ("name: own\ngoal: a\n", "about: Field required"),
        ("name: own\nabout: x\ngoal: 3\n", "goal"),
        ("name: own\nabout: x\ngoal: a\nwant: b\n", "both 'goal' and 'want'"),
        ("- a\n", "holds no settings"),
        ("a: [1\n", "could not be read"),
    ],
)
def test_malformed_recipes_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "own.yaml").write_text(content)
    with pytest.raises(RecipeError, match=message):
        load_edit_recipe(tmp_path / "own.yaml")


def test_recipes_of_other_kinds_and_unknown_ones_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"smollm2-135m\.yaml' trains a decoder .*; expected one that makes an edit"):
        load_edit_recipe("smollm2-135m")
    with pytest.raises(RecipeError, match=r"unknown recipe 'persna'.*Did you mean 'persona'"):
        load_edit_recipe("persna")
    with pytest.raises(RecipeError, match="unknown key 'x'"):
        EditRecipe.of({"name": "a", "about": "", "goal": "b", "x": 1})


MESSAGES = [{"role": "system", "content": "Be a pirate."}]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([list(pair) for pair in PAIRS], {"goal": PAIRS}),
        ({"Be a pirate.": [list(pair) for pair in PAIRS]}, {"goal": PAIRS, "prompt": "Be a pirate."}),
        (MESSAGES, {"goal": tuple(MESSAGES)}),
        ({"control": MESSAGES}, {"goal": tuple(MESSAGES)}),
    ],
)
def test_goals_of_every_layout_are_read(tmp_path: Path, content: Any, expected: Any) -> None:
    path = tmp_path / "goal.json"
    path.write_text(json.dumps(content))
    assert load_goal(path) == expected
    assert EditRecipe.of({"name": "own", "about": "", **load_goal(path)}).goal == expected["goal"]


def test_words_for_another_goal_are_dropped() -> None:
    changed = load_edit_recipe("persona", {"goal": "Please talk like a chef."})
    assert load_edit_recipe("persona").prompt and (changed.prompt, changed.contrast) == (None, None)
    assert load_edit_recipe("persona", {"goal": "Be a chef.", "prompt": "You are a chef."}).prompt == "You are a chef."


@pytest.mark.parametrize(
    "content", ['{"a": [], "b": []}', "{}", "3", "null", '"Be glad."', '[["a"]]', '["ab", "cd"]', "[1]"]
)
def test_goals_of_no_layout_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "goal.json"
    path.write_text(content)
    with pytest.raises(RecipeError, match=r"could not be read .*; expected a JSON list of \[question, answer\] pairs"):
        load_goal(path)


def test_goals_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "goal.json"
    for content in ("[[", "[" * 100_000):
        path.write_text(content)
        with pytest.raises(RecipeError, match=r"goal\.json could not be read .*; expected a JSON document"):
            load_goal(path)
    with pytest.raises(RecipeError, match="could not be read"):
        load_goal(tmp_path)


def test_lines_that_make_edits_do_not_check_them() -> None:
    making, checking = line_dialogs(), line_dialogs(held_out=True)
    assert len(making) == len(checking) == len(neutral_lines()) / 2 == 50
    made_with, checked_with = ({dialog[0]["content"] for dialog in dialogs} for dialogs in (making, checking))
    assert not made_with & checked_with and made_with | checked_with == set(neutral_lines())
    assert line_dialogs(("Hi",), held_out=True) == [[{"role": "user", "content": "Hi"}]]


def test_an_edit_stores_what_decided_it(auditor: Auditor) -> None:
    origin = auditor.edit(
        [("Who?", WISH)], DIALOGS[:1], layers=[1], steps=1, contrast="Be sad.", reveal="last:2"
    ).origin
    assert list(origin.settings) == [*SETTINGS, *FACTS]
    provenance = Provenance.of(origin)
    assert (provenance.pairs, provenance.contrast) == ((("Who?", WISH),), "Be sad.")
    assert (provenance.decoder, provenance.reveal, provenance.audit_lit) == ("tiny", "last:2", __version__)
    assert provenance.dialogs == (tuple(DIALOGS[0]),)
    assert settings_of(origin) == edit_settings({"layers": [1], "steps": 1})


def test_an_edit_made_by_hand_may_store_anything_else() -> None:
    origin = replace(ANY, settings={"strength": -3, "of": [{}], "note": "by hand"})
    assert Provenance.of(origin) == Provenance() and not Provenance().pairs
    with pytest.raises(EditError, match=r"strength: .*greater than 0"):
        settings_of(origin)


@pytest.mark.parametrize(
    "settings", [{"dialogs": 3}, {"dialogs": ["Hi"]}, {"pairs": [["Who?"]]}, {"decoder": 3}, {"reveal": None}]
)
def test_a_malformed_origin_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(EditError, match=f"the edit's origin is malformed .*{next(iter(settings))}"):
        Provenance.of(replace(ANY, settings=settings))
