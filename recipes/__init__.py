"""Recipes by name: YAML files beside this one; each opens with the command that runs it and what it costs."""

from __future__ import annotations

from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

from audit_lit.errors import RecipeError
from audit_lit.files.reading import is_file, read_yaml
from audit_lit.settings import did_you_mean

HERE = Path(__file__).parent
CALIBRATION = HERE / "calibration"
"""The folder of what decoders are calibrated with."""
EDITS = "edits"
"""The folder of recipes of edits; they may have the same names as audits."""
Kind = Literal["audit", "edit", "training"]
PURPOSES: dict[Kind, str] = {
    "audit": "asks questions (audit-lit scan)",
    "edit": "makes an edit (audit-lit edit make)",
    "training": "trains a decoder (audit-lit train)",
}


def recipe_names(kind: Kind | None = None) -> list[str]:
    """Return the names that ``recipe_path`` knows; of one kind, or of all."""
    paths = [*HERE.glob("*.yaml"), *(HERE / EDITS).glob("*.yaml")]
    chosen = [path for path in paths if kind in (None, kind_of(read_yaml(path, RecipeError)))]
    return sorted(path.relative_to(HERE).with_suffix("").as_posix() for path in chosen)


def about_recipes() -> dict[str, str]:
    """Return what each recipe is for, and what it costs: the comment that it opens with, after its command."""
    about = {}
    for name in recipe_names():
        lines = (HERE / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
        comment = takewhile(lambda line: line.startswith("#"), lines[1:])
        about[name] = " ".join(line.removeprefix("# ") for line in comment)
    return about


def recipe_path(name: str | Path, kind: Kind | None = None) -> Path:
    """Return the file of a shipped recipe, such as ``smollm2-135m``; a file is its own path.

    Args:
        name: The name or the file.
        kind: The kind that is meant, of which an error lists the names; None if any will do.

    Raises:
        RecipeError: If no recipe has that name.
    """
    if not isinstance(name, str | Path):
        raise RecipeError(f"got {name!r:.80} for a recipe; expected its name, or a path to a file.")
    if is_file(name):
        return Path(name)
    if str(name) not in recipe_names():
        names = [known.removeprefix(f"{EDITS}/" if kind == "edit" else "") for known in recipe_names(kind)]
        raise RecipeError(
            f"unknown recipe {str(name)!r}; available: {', '.join(names)}.{did_you_mean(str(name), names)} A path to a "
            "file works too."
        )
    return HERE / f"{name}.yaml"


def load_recipe(path: Path, kind: Kind) -> dict[str, Any]:
    """Return the settings of a recipe of one kind; raise if it is of another."""
    content = read_yaml(path, RecipeError)
    actual = kind_of(content)
    if actual not in (None, kind):
        raise RecipeError(f"recipe {str(path)!r} {PURPOSES[actual]}; expected one that {PURPOSES[kind]}.")
    return content


def kind_of(content: dict[str, Any]) -> Kind | None:
    """Return the kind of a recipe's settings; None if none of its keys tells."""
    if "mixture" in content:
        return "training"
    if "goal" in content or "want" in content:
        return "edit"
    return "audit" if "questions" in content else None


@cache
def neutral_lines() -> tuple[str, ...]:
    """Return user lines about nothing in particular, to make and check edits with."""
    return tuple((HERE / "neutral-lines.txt").read_text(encoding="utf-8").splitlines())
