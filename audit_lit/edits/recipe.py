"""The recipe of an edit: its goal, and how it is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from audit_lit.chat.dialog import Dialog
from audit_lit.errors import EditError, RecipeError
from audit_lit.files import read_json
from audit_lit.recipes import EDITS, load_recipe, neutral_lines, recipe_names, recipe_path
from audit_lit.settings import explain, merged

Method = Literal["vector", "gradient", "lowrank", "weights"]
RecipeGoal = str | tuple[tuple[str, str], ...] | tuple[dict[str, Any], ...]


class EditSettings(BaseModel):
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


class EditRecipe(EditSettings):
    """The goal of an edit, and how the edit is made.

    Attributes:
        name: What it is called.
        about: What it is for, in a sentence.
        goal: A sentence, pairs of question and answer, or messages of a control prompt (see ``goal.goal_of``). Files
            may call it ``want``.
        prompt: The goal as a system prompt, for the control ``prompting``; None takes ``goal`` as it is.
        contrast: The opposite, for the control ``caa``; None compares with no system prompt.
        lines: User lines to make it with; without any, those that ship with the package.
    """

    name: str
    about: str
    goal: RecipeGoal
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
            return cls.model_validate(_with_goal(values))
        except ValidationError as err:
            raise RecipeError(f"the edit's settings: {explain(err, cls)}.") from err

    def settings(self) -> EditSettings:
        """Return the part that says how."""
        return EditSettings.model_validate(self.model_dump(include=set(EditSettings.model_fields)))


def load_edit_recipe(name: str | Path, overrides: dict[str, Any] | None = None) -> EditRecipe:
    """Read a recipe by name or path.

    Raises:
        RecipeError: If it cannot be read, or a key is unknown or of a wrong type.
    """
    in_folder = f"{EDITS}/{name}"
    path = recipe_path(in_folder if in_folder in recipe_names() and not Path(name).is_file() else name)
    content, changes = _with_goal(load_recipe(path, "edit")), _with_goal(overrides or {})
    if "goal" not in content:
        raise RecipeError(f"recipe {str(path)!r} makes no edit: it has no 'goal'. See audit-lit recipes list.")
    if "goal" in changes:  # what is said of another goal does not hold
        content = {key: value for key, value in content.items() if key not in ("prompt", "contrast")}
    return EditRecipe.of(merged(content, changes))


def _with_goal(values: dict[str, Any]) -> dict[str, Any]:
    """Return settings with the goal under its own name, whichever of the two it was given under."""
    return {"goal" if key == "want" else key: value for key, value in values.items()}


def edit_settings(values: dict[str, Any]) -> EditSettings:
    """Return settings that a caller names.

    Raises:
        EditError: If one is unknown, or out of its range.
    """
    try:
        return EditSettings.model_validate(values)
    except ValidationError as err:
        raise EditError(f"the edit's settings: {explain(err, EditSettings)}.") from err


def load_goal(path: Path) -> dict[str, Any]:
    """Read a goal from a JSON file: pairs, messages, or LatentQA's ``{control prompt: pairs}``, with its ``prompt``.

    Raises:
        RecipeError: If it is none of them.
    """
    content = read_json(path, RecipeError)
    words: dict[str, Any] = {}
    try:
        if isinstance(content, dict):
            ((prompt, content),) = content.items()
            words = {"prompt": prompt}
        if all(isinstance(message, dict) for message in content):
            return {"goal": tuple(content)}
        if not all(isinstance(pair, list) for pair in content):
            raise ValueError("a pair is not a list")
        return words | {"goal": tuple((str(question), str(answer)) for question, answer in content)}
    except (ValueError, TypeError) as err:
        raise RecipeError(
            f"{path} could not be read ({err}); expected a JSON list of [question, answer] pairs or of messages."
        ) from err


def line_dialogs(lines: tuple[str, ...] = (), *, held_out: bool = False) -> list[Dialog]:
    """Return a dialog for each line; of the package's own, one half makes edits and the other checks them."""
    chosen = lines or neutral_lines()[held_out::2]
    return [[{"role": "user", "content": line}] for line in chosen]
