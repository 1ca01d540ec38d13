"""A training recipe: everything that decides a run, as data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictInt,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from audit_lit.decoder.wire_format import WireFormat
from audit_lit.errors import RecipeError
from audit_lit.recipes import load_recipe
from audit_lit.settings import MAX_SEED, explain, merged, template_fields

AboutPrompt = Literal["label", "instruction", "system", "qa", "kind", "yes_no"]
AboutElse = Literal["user", "relation", "previous_text", "next_text", "neutral", "null"]
AboutTraining = Literal["trained_label", "trained_qa", "trained_claim"]


FIELDS = {"yes_no": "claim", "trained_claim": "claim", "user": "attribute"}
"""What stands in braces in the questions of these sources, and is filled in for each example."""

WITHOUT_TEXT = ("null", "previous_text", *get_args(AboutTraining))
"""Sources that teach a text baseline nothing: no text is random, none needs to be read back or shows training."""


LLAMA = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""All linear layers of a Llama."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TrainingWire(WireFormat):
    """How activations enter the decoder, with other defaults than a published decoder's."""

    section: str = "{slots}"
    placeholder: str = " ?"
    chat: bool = False
    write: Literal["replace", "add", "project"] = "project"
    write_layer: int = 0
    positions: Literal["all", "edges"] = "edges"
    n_edge: int = 4


class Lora(_Strict):
    """Settings of the LoRA, as peft names them; ``target_modules`` are linear layers of the blocks."""

    r: int = Field(default=16, ge=1, le=4096)
    lora_alpha: int = Field(default=32, ge=1, le=2**20)
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: Literal["all-linear"] | Annotated[tuple[str, ...], Field(min_length=1)] = "all-linear"

    @field_validator("target_modules", mode="before")
    @classmethod
    def _all_of_llama(cls, value: Any) -> Any:
        """Take the former default for what it meant, so that runs of earlier versions are resumed."""
        return "all-linear" if value in (LLAMA, list(LLAMA)) else value


class Share(_Strict):
    """The weight of one source (see ``training.sources``) among the examples, and the questions that it asks.

    Of the questions, one is drawn for each example; ``qa`` and ``relation`` bring their own, those of ``yes_no`` hold
    ``{claim}``, those of ``user`` ``{attribute}``. Neutral prompts are sentences that instruct nothing in particular,
    for ``neutral`` and the dialogs without a hidden prompt in ``yes_no``.
    """

    source: Literal[AboutPrompt, AboutElse, AboutTraining]
    weight: float = Field(gt=0, le=1e6)
    questions: tuple[str, ...] = ()
    neutral_prompts: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _can_be_filled_in(self) -> Share:
        field = FIELDS.get(self.source)
        for question in self.questions if field else ():
            if template_fields(question) != {field}:
                raise ValueError(f"question {question!r} must hold {{{field}}}, and no other field in braces")
        return self


class TrainingRecipe(_Strict):
    """A whole training run; lengths of time are numbers of optimizer steps.

    Attributes:
        about_data: For the card: where the data come from.
        limits: For the card: what the decoder cannot do, a sentence or two each.
        target: Model to read: alias, folder or Hub id; ``tiny`` is a random one for ``--smoke``.
        start: Decoder to continue from (``default``, a folder or a Hub id); None starts anew.
        organisms: Libraries of organisms for the sources about training: ``shipped``, and files that ``organisms
            measure`` and ``organisms prompts`` wrote.
        repaired: Share of system prompts that get a random user line, because their own often gives the prompt away.
        reworded: Share of system prompts that are put in other words.
        reads: ``text`` trains a text baseline, which is given the visible text instead of activations.
        rival: Number of examples for the text baseline that is trained after the decoder and shipped with it, or 0.
        batch_size: Number of examples per optimizer step, over all processes.
        accumulate: Number of parts that each process computes its share of a step in; more parts need less memory.
        average: Decay per step of the moving average of the weights that is measured and saved; 0 takes the last.
        buckets: Number of steps whose examples are drawn together and sorted by length.
        lr: AdamW's step size after ``warmup`` steps; it falls linearly to zero.
        precision: ``auto`` takes bfloat16 on GPUs, and on CPUs where a matrix product is faster in it.
    """

    name: str
    target: str = "smollm2-135m"
    licence: str = "apache-2.0"
    about_data: str = "in LatentQA's file layout"
    limits: tuple[str, ...] = ()
    wire: TrainingWire
    lora: Lora = Lora()
    mixture: tuple[Share, ...] = Field(min_length=1)
    start: str | None = None
    organisms: tuple[str, ...] = ()
    repaired: float = Field(default=0.9, ge=0, le=1)
    reworded: float = Field(default=0.0, ge=0, le=1)
    reads: Literal["activations", "text"] = "activations"
    rival: int = Field(default=0, ge=0)
    examples: int = Field(gt=0)
    batch_size: int = Field(default=16, gt=0, le=2**16)
    accumulate: int = Field(default=1, gt=0)
    average: float = Field(default=0.0, ge=0, lt=1)
    buckets: int = Field(default=16, gt=0, le=1024)
    lr: float = Field(default=1e-3, gt=0, le=10)
    weight_decay: float = Field(default=0.01, ge=0, le=10)
    warmup: int = Field(default=20, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    evaluate_every: int = Field(default=100, gt=0)
    checkpoint_every: int = Field(default=50, gt=0)
    seed: StrictInt = Field(default=0, ge=0, le=MAX_SEED)

    @model_validator(mode="after")
    def _teaches_the_baseline_something(self) -> TrainingRecipe:
        if self.rival and all(share.source in WITHOUT_TEXT for share in self.mixture):
            raise ValueError(f"rival={self.rival} needs a source in the mixture besides {' and '.join(WITHOUT_TEXT)}")
        return self

    @model_serializer(mode="wrap")
    def _as_run_folders_hold_it(self, serialize: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Leave out what later versions added where it says nothing new."""
        settings = serialize(self)
        if not self.organisms:
            del settings["organisms"]
        return settings

    @model_validator(mode="after")
    def _names_organisms(self) -> TrainingRecipe:
        asked = [share.source for share in self.mixture if share.source in get_args(AboutTraining)]
        if asked and not self.organisms:
            raise ValueError(f"source {asked[0]!r} needs organisms; set 'organisms' to [shipped], or to files")
        return self

    @property
    def n_steps(self) -> int:
        """Number of optimizer steps."""
        return -(-self.examples // self.batch_size)

    def for_text_baseline(self) -> TrainingRecipe:
        """Return the recipe of the text baseline: the same LoRA and questions, given the visible text.

        Each hidden prompt keeps its own user line, the only place where the text may give it away; no text is random,
        and none needs to be read back.
        """
        changes = {
            "name": f"{self.name}-text",
            "reads": "text",
            "start": None,
            "repaired": 0.0,
            "examples": self.rival,
            "rival": 0,
            "warmup": min(self.warmup, self.rival // self.batch_size // 10),  # its run is short
            "mixture": tuple(share for share in self.mixture if share.source not in WITHOUT_TEXT),
            "organisms": (),
            "wire": self.wire.model_copy(update={"write": "replace"}),  # nothing is written
        }
        return self.model_copy(update=changes)


def load_training_recipe(path: str | Path, overrides: dict[str, Any] | None = None) -> TrainingRecipe:
    """Read a recipe from YAML, with overrides put over it."""
    content = load_recipe(Path(path), "training")
    try:
        return TrainingRecipe.model_validate(merged(content, overrides or {}))
    except ValidationError as err:
        raise RecipeError(f"recipe {str(path)!r}: {explain(err, TrainingRecipe, TrainingWire, Lora, Share)}") from err
