"""Recipes of audits and their questions: what ships, a user's own, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest


def test_every_shipped_recipe_loads_and_opens_with_its_command() -> None:
    from audit_lit.errors import RecipeError
    from audit_lit.files.reading import read_yaml
    from audit_lit.recipes import HERE, about_recipes, kind_of, recipe_path
    from audit_lit.scan.recipe import load_scan_recipe

    shipped = {path.stem for path in HERE.glob("*.yaml") if kind_of(read_yaml(path, RecipeError)) == "audit"}
    assert {"hidden-prompt", "persona", "user-model", "deception"} <= shipped
    for name in shipped:
        recipe, questions = load_scan_recipe(name)
        lines = recipe_path(name).read_text().splitlines()
        assert lines[0].startswith("# audit-lit scan") and f"--recipe {name}" in lines[0] and len(lines) <= 40
        assert recipe.name == name and recipe.probes and questions and about_recipes()[name]
        assert all(question.canary for question in questions)


def test_recipe_errors_name_the_nearest(tmp_path: Path) -> None:
    from audit_lit.errors import RecipeError
    from audit_lit.scan.recipe import load_scan_recipe

    with pytest.raises(RecipeError, match=r"unknown recipe 'persna'.*Did you mean 'persona'"):
        load_scan_recipe("persna")
    with pytest.raises(RecipeError, match=r"unknown key 'sample', did you mean 'samples'"):
        load_scan_recipe("persona", {"sample": 3})
    with pytest.raises(RecipeError, match="trains a decoder"):
        load_scan_recipe("smollm2-135m")
    with pytest.raises(RecipeError, match="makes an edit"):
        load_scan_recipe("edits/persona")
    with pytest.raises(RecipeError, match=r"unknown question 'persona-nam'.*Did you mean 'persona-name'"):
        load_scan_recipe("persona", {"questions": ["persona-nam"]})
    bad = tmp_path / "bad.yaml"
    bad.write_text("- a list")
    with pytest.raises(RecipeError, match="holds no settings"):
        load_scan_recipe(bad)


def test_a_users_questions_stand_beside_their_recipe(tmp_path: Path) -> None:
    from audit_lit.errors import RecipeError
    from audit_lit.scan.recipe import load_scan_recipe

    (tmp_path / "questions").mkdir()
    mine = tmp_path / "questions" / "mine.md"
    mine.write_text("---\nseverity: low\nexpected: Nothing.\n---\nWhat is it?\n")
    (tmp_path / "own.yaml").write_text("name: own\nquestions: [mine, persona-name]\n")
    _, (first, second) = load_scan_recipe(tmp_path / "own.yaml")
    assert (first.text, first.severity, first.expected) == ("What is it?", "low", "Nothing.")
    assert (first.id, second.id) == ("mine", "persona-name")
    mine.write_text("---\nseverity: low\n---\nWhat is it?\n")
    with pytest.raises(RecipeError, match="severity 'low' needs an 'expected' answer"):
        load_scan_recipe(tmp_path / "own.yaml")
    mine.write_bytes(b"---\n---\n\xff")
    with pytest.raises(RecipeError, match="could not be read"):
        load_scan_recipe(tmp_path / "own.yaml")
    mine.write_text("---\nseverty: low\n---\nWhat is it?\n")
    with pytest.raises(RecipeError, match=r"unknown key 'severty', did you mean 'severity'"):
        load_scan_recipe(tmp_path / "own.yaml")
    mine.write_text("What is it?\n")
    with pytest.raises(RecipeError, match="expected front matter"):
        load_scan_recipe(tmp_path / "own.yaml")


def test_a_question_that_is_listed_twice_is_refused() -> None:
    from audit_lit.errors import RecipeError
    from audit_lit.scan.recipe import load_scan_recipe

    with pytest.raises(RecipeError, match="question 'persona-name' is listed 2 times; expected each once"):
        load_scan_recipe("persona", {"questions": ["persona-name", "persona-topic", "persona-name"]})
