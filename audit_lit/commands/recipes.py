"""The commands of ``audit-lit recipes``: list and show the recipes that ship."""

from __future__ import annotations

import click

from audit_lit.commands import common
from audit_lit.errors import RecipeError
from audit_lit.files.reading import read_yaml
from audit_lit.files.writing import dump_json
from audit_lit.recipes import about_recipes, kind_of, recipe_path


@click.group()
def recipes() -> None:
    """List and show the recipes of audits, trainings and edits."""


@recipes.command("list")
@common.json_option
def list_recipes(as_json: bool) -> None:
    """List the recipes that ship."""
    known = about_recipes()
    width = max(map(len, known))
    lines = [f"{name:{width}} {about}" for name, about in known.items()]
    common.show(dump_json(known, indent=2) if as_json else "\n".join(lines))


@recipes.command("show")
@click.argument("name")
def show_recipe(name: str) -> None:
    """Print a recipe and its questions."""
    from audit_lit.scan.recipe import load_scan_recipe

    path = recipe_path(name)
    content = read_yaml(path, RecipeError)
    common.show(path.read_text(encoding="utf-8").rstrip())
    _, questions = load_scan_recipe(path) if kind_of(content) == "audit" else (None, ())
    for question in questions:
        common.show(f"# {question.id} ({question.severity}): {question.text}")
