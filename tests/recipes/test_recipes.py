"""Recipes: found by name or path, told apart by kind, and what each says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from audit_lit.errors import RecipeError
from audit_lit.recipes import about_recipes, kind_of, load_recipe, neutral_lines, recipe_names, recipe_path


def test_recipes_are_found_by_name() -> None:
    assert "smollm2-135m" in recipe_names()
    for name in recipe_names():
        assert recipe_path(name).is_file()


def test_a_file_is_its_own_path(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("questions: [a]\n")
    assert (
        recipe_path(tmp_path / "recipe.yaml") == recipe_path(str(tmp_path / "recipe.yaml")) == tmp_path / "recipe.yaml"
    )


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"unknown recipe 'smolm2-135'.*Did you mean 'smollm2-135m'"):
        recipe_path("smolm2-135")


def test_every_recipe_opens_with_its_command_and_says_what_it_costs() -> None:
    for name, about in about_recipes().items():
        command = recipe_path(name).read_text(encoding="utf-8").splitlines()[0]
        assert command.startswith("# audit-lit ") and name.removeprefix("edits/") in command
        assert "on two CPU cores" in about


def test_every_recipe_has_the_kind_of_its_command() -> None:
    commands = {"scan": "audit", "edit": "edit", "train": "training"}
    for name in recipe_names():
        command = recipe_path(name).read_text(encoding="utf-8").split()[2]
        kind = commands[command]
        assert kind_of(load_recipe(recipe_path(name), kind)) == kind  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("mixture: []", "trains a decoder .* expected one that asks questions"),
        ("want: Be glad.", "makes an edit .* expected one that asks questions"),
        ("goal: Be glad.", "makes an edit .* expected one that asks questions"),
        ("- a list", "holds no settings"),
        ("a: [", "could not be read"),
    ],
)
def test_a_recipe_of_another_kind_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "recipe.yaml").write_text(content)
    with pytest.raises(RecipeError, match=message):
        load_recipe(tmp_path / "recipe.yaml", "audit")


def test_neutral_lines_are_many_and_differ() -> None:
    assert len(neutral_lines()) == len(set(neutral_lines())) == 100
    assert all(line.strip() == line and line for line in neutral_lines())


@pytest.mark.parametrize("kind", ["audit", "edit", "training"])
def test_an_unknown_recipe_is_told_those_of_its_kind(kind: Any) -> None:
    with pytest.raises(RecipeError) as raised:
        recipe_path("no-such", kind)
    listed = str(raised.value).partition("available: ")[2].partition(".")[0].split(", ")
    paths = {recipe_path(f"edits/{name}" if kind == "edit" else name, kind) for name in listed}
    known = {recipe_path(name) for name in recipe_names()}
    assert paths == {path for path in known if kind_of(yaml.safe_load(path.read_text())) == kind} != set()
