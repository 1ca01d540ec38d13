"""A training recipe: everything that decides a run, as data."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from audit_lit.errors import RecipeError


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Wire(_Strict):
    """How activations enter the decoder; the rest of the protocol follows from the target (see ``Protocol``)."""

    read_layers: tuple[int, ...]
    prompt: str
    section: str = "{slots}"
    placeholder: str = " ?"
    chat: bool = False
    write: Literal["replace", "add", "project"] = "project"
    write_layer: int = 0
    positions: Literal["all", "edges"] = "edges"
    n_edge: int = 4
    shift_positions: bool = False


class Lora(_Strict):
    """Settings of the LoRA, as peft names them."""

    r: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.0
    target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Share(_Strict):
    """One source's share of the examples, and the questions it asks.

    Attributes:
        source: ``label``: the label's words; ``instruction``: the system prompt's first sentence; ``qa``: free
            question and answer; ``neutral``: a dialog without hidden instruction, answered by saying so.
        weight: Relative share.
        questions: Asked in turn; ``qa`` brings its own.
        neutral_prompts: System prompts that instruct nothing in particular; ``neutral`` uses one or none.
    """

    source: Literal["label", "instruction", "qa", "neutral"]
    weight: float = Field(gt=0)
    questions: tuple[str, ...] = ()
    neutral_prompts: tuple[str, ...] = ()


class Recipe(_Strict):
    """A whole training run.

    Attributes:
        name: What the decoder will be called.
        target: Model to read: alias, folder or Hub id; ``tiny`` is a random one for ``--smoke``.
        repaired: Share of system-prompt dialogs that get a random other user line.
        examples: How many examples to train on.
        batch_size: Examples per step.
        buckets: Steps whose examples are drawn together and sorted by length.
        precision: ``auto`` takes bfloat16 on GPUs, and on CPUs where a matrix product is faster in it.
        evaluate_every: Steps between evaluations on the dev split.
        checkpoint_every: Steps between checkpoints.
    """

    name: str
    target: str = "smollm2-135m"
    licence: str = "apache-2.0"
    wire: Wire
    lora: Lora = Lora()
    mixture: tuple[Share, ...]
    repaired: float = Field(default=0.9, ge=0, le=1)
    examples: int = Field(gt=0)
    batch_size: int = Field(default=16, gt=0)
    buckets: int = Field(default=16, gt=0)
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = 0.01
    warmup: int = 20
    max_grad_norm: float = 1.0
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    evaluate_every: int = Field(default=100, gt=0)
    checkpoint_every: int = Field(default=50, gt=0)
    seed: int = 0

    @property
    def n_steps(self) -> int:
        """Number of optimizer steps."""
        return -(-self.examples // self.batch_size)


def load_recipe(path: str | Path, overrides: dict[str, Any] | None = None) -> Recipe:
    """Read a recipe from YAML.

    Raises:
        RecipeError: If it cannot be read, or a key is unknown or of a wrong type.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as err:
        raise RecipeError(f"recipe {str(path)!r} could not be read: {err}. Expected a YAML file.") from err
    if not isinstance(content, dict):
        raise RecipeError(f"recipe {str(path)!r} holds no settings; expected 'key: value' lines.")
    try:
        return Recipe.model_validate(content | (overrides or {}))
    except ValidationError as err:
        raise RecipeError(f"recipe {str(path)!r}: " + "; ".join(_explain(problem) for problem in err.errors())) from err


def _explain(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] != "extra_forbidden":
        return f"{where}: {problem['msg']}"
    known = [name for model in (Recipe, Wire, Lora, Share) for name in model.model_fields]
    near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
    return f"unknown key {where!r}" + (f", did you mean {near[0]!r}?" if near else "")
