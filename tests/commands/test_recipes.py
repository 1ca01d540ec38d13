"""``audit-lit recipes``: what it lists and shows."""

from __future__ import annotations

import json
from pathlib import Path

from helpers.commands import run


def test_recipes_are_listed() -> None:
    listed = run("recipes", "list", "--json")
    assert {"hidden-prompt", "persona", "smollm2-135m", "edits/persona"} <= set(json.loads(listed.stdout))
    lines = run("recipes", "list").stdout.splitlines()
    assert len(lines) == len(json.loads(listed.stdout)) and any(line.startswith("hidden-prompt ") for line in lines)


def test_an_audit_is_shown_with_its_questions() -> None:
    shown = run("recipes", "show", "persona")
    assert shown.exit_code == 0 and "persona-name (high)" in shown.output and "questions:" in shown.output


def test_recipes_of_other_kinds_are_shown_as_they_are() -> None:
    from audit_lit.recipes import recipe_path

    for name in ("smollm2-135m", "edits/persona"):
        shown = run("recipes", "show", name)
        assert shown.exit_code == 0 and shown.output == recipe_path(name).read_text(encoding="utf-8")


def test_unknown_and_unreadable_recipes_exit_2(tmp_path: Path) -> None:
    unknown = run("recipes", "show", "persna")
    assert unknown.exit_code == 2 and "Did you mean 'persona'" in unknown.stderr
    (tmp_path / "recipe.yaml").write_text("- a list\n")
    assert run("recipes", "show", str(tmp_path / "recipe.yaml")).exit_code == 2
