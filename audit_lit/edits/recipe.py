"""The recipe of an edit: its goal, and how it is made; and what a made edit stores of both."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError

from audit_lit.chat.dialog import Dialog
from audit_lit.errors import EditError, RecipeError
from audit_lit.files.reading import is_file, read_json
from audit_lit.recipes import EDITS, load_recipe, neutral_lines, recipe_names, recipe_path
from audit_lit.settings import MAX_SEED, explain, merged

if TYPE_CHECKING:  # it imports torch, which the command line's usage errors do not wait for
    from audit_lit.hooks import Origin

Method = Literal["vector", "gradient", "lowrank", "weights"]
RecipeGoal = str | tuple[tuple[str, str], ...] | tuple[dict[str, Any], ...]


class EditSettings(BaseModel):
    """How an edit is made.

    Attributes:
        method: The way to make it (see ``methods.py`` and ``weights.py``).
        layers: The blocks whose output is changed. None takes the block two thirds of the way to the one that the
            decoder reads. ``weights`` trains all blocks up to the highest.
        strength: Length of the longest change, in median residual norms; for several layers, of their changes together.
        steps: Number of gradient steps.
        lr: Adam's step per coordinate, as a fraction of the strength, before the change is bounded. For ``weights`` it
            is Adam's own learning rate. None takes a value that suits the method.
        batch_size: Number of dialogs per step.
        rank: Rank of ``lowrank`` and ``weights``.
        local: Whether each layer has a loss of its own (the paper's ``per_layer_loss``), which needs a decoder of it.
        budget: Largest KL divergence from the unedited model on neutral text, in nats per token; None sets no bound.
        precision: ``bf16`` lets the decoder compute in bfloat16, which takes half the time on CPUs that support it.
        seed: Of whatever is random.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    method: Method = "vector"
    layers: tuple[int, ...] | None = None
    strength: float = Field(default=0.2, gt=0, le=1000)
    steps: int = Field(default=24, ge=1)
    lr: float | None = Field(default=None, gt=0, le=1000)
    batch_size: int = Field(default=8, ge=1)
    rank: int = Field(default=4, ge=1)
    local: bool = False
    budget: float | None = Field(default=None, gt=0)
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: StrictInt = Field(default=0, ge=0, le=MAX_SEED)

    @property
    def step(self) -> float:
        """The learning rate in use."""
        return self.lr or (1e-3 if self.method == "weights" else 0.15)


class EditRecipe(EditSettings):
    """The goal of an edit (see ``goal.goal_of``; files may call it ``want``), and how the edit is made."""

    name: str
    about: str
    goal: RecipeGoal
    prompt: str | None = None
    """The goal as a system prompt, for the control ``prompting``; None takes ``goal`` as it is."""
    contrast: str | None = None
    """The opposite of the goal, for the control ``caa``; None compares with no system prompt."""
    lines: tuple[str, ...] = ()
    """User lines to make the edit with; if empty, those that ship with the package."""

    @classmethod
    def of(cls, values: dict[str, Any]) -> EditRecipe:
        """Return the recipe that plain values describe."""
        try:
            return cls.model_validate(_with_goal(values))
        except ValidationError as err:
            raise RecipeError(f"the edit's settings: {explain(err, cls)}.") from err

    def settings(self) -> EditSettings:
        """Return the settings without the goal."""
        return EditSettings.model_validate(self.model_dump(include=set(EditSettings.model_fields)))


def load_edit_recipe(name: str | Path, overrides: dict[str, Any] | None = None) -> EditRecipe:
    """Read a recipe by name or path, with overrides put over it."""
    shipped = f"{EDITS}/{name}"
    path = recipe_path(shipped if shipped in recipe_names() and not is_file(name) else name, "edit")
    content, changes = _with_goal(load_recipe(path, "edit")), _with_goal(overrides or {})
    if "goal" not in content:
        raise RecipeError(f"recipe {str(path)!r} makes no edit: it has no 'goal'. See audit-lit recipes list.")
    if "goal" in changes:  # the recipe's words describe its own goal
        content = {key: value for key, value in content.items() if key not in ("prompt", "contrast")}
    return EditRecipe.of(merged(content, changes))


def _with_goal(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values with the goal under the name ``goal``, which files may call ``want``."""
    if "goal" in values and "want" in values:
        raise RecipeError("the recipe has both 'goal' and 'want', two names of one setting. Remove one of them.")
    return {"goal" if key == "want" else key: value for key, value in values.items()}


def edit_settings(values: dict[str, Any]) -> EditSettings:
    """Return the settings that plain values describe."""
    try:
        return EditSettings.model_validate(values)
    except ValidationError as err:
        raise EditError(f"the edit's settings: {explain(err, EditSettings)}.") from err


def load_goal(path: Path) -> dict[str, Any]:
    """Read a goal from a JSON file: pairs, messages, or LatentQA's ``{control prompt: pairs}``, with its ``prompt``."""
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
    """Return a dialog for each user line; without lines, for half of the neutral lines.

    One half makes edits; the other, held out, checks them.
    """
    return [[{"role": "user", "content": line}] for line in lines or neutral_lines()[held_out::2]]


class Provenance(BaseModel):
    """What decided an edit besides its goal and its ``EditSettings``, which ``Origin.settings`` holds beside it."""

    model_config = ConfigDict(extra="ignore", frozen=True)  # an edit made by hand may store anything

    pairs: tuple[tuple[str, str], ...] = ()
    contrast: str | None = None
    decoder: str | None = None
    decoder_training_data: str | None = None
    """SHA-256 of the training data of the decoder."""
    reveal: str | tuple[int, ...] = "user"
    dialogs: tuple[tuple[dict[str, Any], ...], ...] = ()
    audit_lit: str | None = None
    """The version that made the edit."""

    @classmethod
    def of(cls, origin: Origin) -> Provenance:
        """Read what the origin of an edit stores; what it lacks has its default."""
        try:
            return cls.model_validate(origin.settings)
        except ValidationError as err:
            raise EditError(
                f"the edit's origin is malformed ({explain(err, cls)}); expected one that audit-lit wrote. Copy or "
                "fetch the edit again."
            ) from err


def settings_of(origin: Origin) -> EditSettings:
    """Return the settings that an edit was made with; those that its origin lacks have their defaults."""
    return edit_settings({name: value for name, value in origin.settings.items() if name in EditSettings.model_fields})


class Measured(BaseModel):
    """The wanted answers' effect and the perplexity of one condition of a check."""

    wanted: float | None
    perplexity: float


class Checked(BaseModel):
    """What a check found (see ``edits.checks.check.Check``), as ``Origin.metrics`` holds it."""

    effects: dict[str, Measured]
    beats_controls: bool
    verdict: str


class Metrics(BaseModel):
    """What was measured of an edit when it was made; an edit made by hand may store anything beside it."""

    kl: float | None = None
    perplexity_ratio: float | None = None
    loss_before: float | None = None
    loss_after: float | None = None
    scaled_to_budget: float = 1.0
    check: Checked | None = None

    @classmethod
    def of(cls, origin: Origin) -> Metrics:
        """Read what the origin of an edit stores; raise ``EditError`` if it is of another shape."""
        try:
            return cls.model_validate(origin.metrics, strict=True)
        except ValidationError as err:
            raise EditError(
                f"the edit's metrics are malformed ({explain(err)}); expected those that audit-lit wrote. Copy "
                "or fetch the edit again."
            ) from err
