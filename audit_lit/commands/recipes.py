"""The commands of ``audit-lit recipes``: list and show what ships."""

from __future__ import annotations

import json

import click

from audit_lit.errors import RecipeError


@click.group()
def recipes() -> None:
    """List and show recipes of audits, trainings and edits."""


@recipes.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_recipes(as_json: bool) -> None:
    """List the shipped recipes."""
    from audit_lit.recipes import about_recipes

    known = about_recipes()
    lines = [f"{name:16} {about}" for name, about in known.items()]
    click.echo(json.dumps(known, indent=2) if as_json else "\n".join(lines))


@recipes.command("show")
@click.argument("name")
def show_recipe(name: str) -> None:
    """Print a recipe and its questions."""
    from audit_lit.files import read_yaml
    from audit_lit.recipes import kind_of, recipe_path
    from audit_lit.scan.recipe import load_scan_recipe

    path = recipe_path(name)
    click.echo(path.read_text(encoding="utf-8").rstrip())
    for question in load_scan_recipe(path)[1] if kind_of(read_yaml(path, RecipeError)) == "audit" else ():
        click.echo(f"# {question.id} ({question.severity}): {question.text}")
