"""The recipe of an edit: what is wanted, and how the edit is made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from audit_lit.dialog import Dialog
from audit_lit.errors import EditError, RecipeError
from audit_lit.recipes import EDITS, load_yaml, neutral_lines, recipe_names, recipe_path
from audit_lit.settings import explain, merged

Method = Literal["vector", "gradient", "lowrank", "weights"]
Want = str | tuple[tuple[str, str], ...] | tuple[dict[str, Any], ...]


class Settings(BaseModel):
    """How an edit is made.

    Attributes:
        method: See ``methods.py`` and ``weights.py``.
        layers: Blocks whose output is changed; None takes the one two thirds of the way to the one that is read.
            ``weights`` trains all up to the highest.
        strength: Longest change, in units of the median residual norm; of several layers, all together.
        steps: Gradient steps.
        lr: Adam's step per coordinate, as a fraction of the strength, before the edit is kept within it; of
            ``weights``, Adam's own. None takes what suits the method.
        batch_size: Dialogs per step.
        rank: Of ``lowrank`` and ``weights``.
        local: Whether each layer has a loss of its own (the paper's ``per_layer_loss``); the decoder must read it.
        budget: Largest KL divergence from the unedited model on neutral text, in nats per token; None sets no bound.
        precision: ``bf16`` lets the decoder compute in bfloat16: on CPUs that have it, half as long.
        seed: Of whatever is random.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    method: Method = "vector"
    layers: tuple[int, ...] | None = None
    strength: float = Field(default=0.2, gt=0)
    steps: int = Field(default=24, ge=1)
    lr: float | None = Field(default=None, gt=0)
    batch_size: int = Field(default=8, ge=1)
    rank: int = Field(default=4, ge=1)
    local: bool = False
    budget: float | None = Field(default=None, gt=0)
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = Field(default=0, ge=0)

    @property
    def step(self) -> float:
        """The step size that is taken."""
        return self.lr or (1e-3 if self.method == "weights" else 0.15)


class EditRecipe(Settings):
    """What is wanted, and how the edit is made.

    Attributes:
        name: What it is called.
        about: What it is for, in a sentence.
        want: A sentence, pairs of question and answer, or messages of a control prompt (see ``wants.want_of``).
        prompt: The same as a system prompt, for the control ``prompting``; None takes ``want`` as it is.
        contrast: The opposite, for the control ``caa``; None compares with no system prompt.
        lines: User lines to make it with; without any, those that ship with the package.
    """

    name: str
    about: str
    want: Want
    prompt: str | None = None
    contrast: str | None = None
    lines: tuple[str, ...] = ()

    @classmethod
    def of(cls, values: dict[str, Any]) -> EditRecipe:
        """Return a recipe that a caller spells out.

        Raises:
            RecipeError: If a key is unknown or of a wrong type.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as err:
            raise RecipeError(f"the edit's settings: {explain(err, cls)}.") from err

    def settings(self) -> Settings:
        """Return the part that says how."""
        return Settings.model_validate(self.model_dump(include=set(Settings.model_fields)))


def load_edit_recipe(name: str | Path, overrides: dict[str, Any] | None = None) -> EditRecipe:
    """Read a recipe by name or path.

    Raises:
        RecipeError: If it cannot be read, or a key is unknown or of a wrong type.
    """
    own = f"{EDITS}/{name}"
    path = Path(name) if Path(name).is_file() else recipe_path(own if own in recipe_names() else str(name))
    content = load_yaml(path)
    if "want" not in content:
        raise RecipeError(f"recipe {str(path)!r} makes no edit: it has no 'want'. See audit-lit recipes list.")
    given = overrides or {}
    if "want" in given:  # what is said of another want does not hold
        content = {key: value for key, value in content.items() if key not in ("prompt", "contrast")}
    return EditRecipe.of(merged(content, given))


def settings_from(values: dict[str, Any]) -> Settings:
    """Return settings that a caller names.

    Raises:
        EditError: If one is unknown, or out of its range.
    """
    try:
        return Settings.model_validate(values)
    except ValidationError as err:
        raise EditError(f"the edit's settings: {explain(err, Settings)}.") from err


def load_want(path: Path) -> dict[str, Any]:
    """Read ``want`` from a JSON file: pairs, messages, or LatentQA's ``{control prompt: pairs}``, with its ``prompt``.

    Raises:
        RecipeError: If it is none of them.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        named: dict[str, Any] = {}
        if isinstance(content, dict):
            ((prompt, content),) = content.items()
            named = {"prompt": prompt}
        if all(isinstance(one, dict) for one in content):
            return {"want": tuple(content)}
        if not all(isinstance(one, list) for one in content):
            raise ValueError("a pair is no list")
        return named | {"want": tuple((str(question), str(answer)) for question, answer in content)}
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, ValueError, TypeError) as err:
        raise RecipeError(
            f"{path} could not be read ({err}); expected a JSON list of [question, answer] pairs or of messages."
        ) from err


def line_dialogs(lines: tuple[str, ...] = (), *, held_out: bool = False) -> list[Dialog]:
    """Return a dialog for each line; of the package's own, one half makes edits and the other checks them."""
    chosen = lines or neutral_lines()[held_out::2]
    return [[{"role": "user", "content": line}] for line in chosen]
