"""Recipes by name: YAML files beside this one, each opening with the command that runs it and its cost."""

from __future__ import annotations

import difflib
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

from audit_lit.errors import RecipeError

HERE = Path(__file__).parent
EDITS = "edits"
"""Folder of the recipes of edits, whose names may be those of audits, too."""


def recipe_names() -> list[str]:
    """Return the names that ``recipe_path`` knows."""
    paths = [*HERE.glob("*.yaml"), *(HERE / EDITS).glob("*.yaml")]
    return sorted(path.relative_to(HERE).with_suffix("").as_posix() for path in paths)


def about_recipes() -> dict[str, str]:
    """Return each recipe's command and what it costs: the comment that it opens with."""
    found = {}
    for name in recipe_names():
        lines = (HERE / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
        found[name] = " ".join(
            line.removeprefix("# ") for line in takewhile(lambda line: line.startswith("#"), lines[1:])
        )
    return found


def recipe_path(name: str) -> Path:
    """Return the file of the recipe ``name``, such as ``smollm2-135m``.

    Raises:
        RecipeError: If there is none of that name.
    """
    names = recipe_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise RecipeError(f"unknown recipe {name!r}; available: {', '.join(names)}.{hint} A path to a file works too.")
    return HERE / f"{name}.yaml"


def load_yaml(path: Path) -> dict[str, Any]:
    """Return a recipe's settings.

    Raises:
        RecipeError: If the file cannot be read, or holds none.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as err:
        raise RecipeError(f"recipe {str(path)!r} could not be read: {err}. Expected a YAML file.") from err
    if not isinstance(content, dict):
        raise RecipeError(f"recipe {str(path)!r} holds no settings; expected 'key: value' lines.")
    return content


@cache
def neutral_lines() -> tuple[str, ...]:
    """Return user lines about nothing in particular, to make and check edits with."""
    return tuple((HERE / "neutral-lines.txt").read_text(encoding="utf-8").splitlines())
