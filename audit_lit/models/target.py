"""The model under audit: a TransformerLens model, its tokenizer, and its name and revision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from audit_lit.errors import TargetError
from audit_lit.hooks import HookedModel, fingerprint, is_hooked, require_raw
from audit_lit.models.lora_bank import LoraBank

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Target:
    """A model whose activations are read.

    Attributes:
        model: The TransformerLens model (``TransformerBridge`` or ``HookedTransformer``), with raw weights.
        tokenizer: The Hugging Face tokenizer; that of the TransformerLens model adds a second BOS to chat text.
        name: Alias, Hub id or folder.
        revision: Commit of a Hub model, if known.
        base: A plain Hugging Face copy that shares the model's parameters, for a decoder on the same base.
        lora: A LoRA that acts on the model, whose weights are shared with the target without it; None if there is none.
    """

    model: HookedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    revision: str | None = None
    base: PreTrainedModel | None = None
    lora: LoraBank | None = None

    def __post_init__(self) -> None:
        """Refuse a model whose activations would make every answer wrong.

        Raises:
            TargetError: If the object is not a TransformerLens model, its weights are processed, or its tokenizer does
                not say which characters a token stands for.
        """
        if not is_hooked(self.model):
            raise TargetError(
                f"got a {type(self.model).__name__}; expected a TransformerLens model. Wrap a Hugging Face model with "
                "TransformerBridge.boot_transformers(name), or use audit_lit.load_target(name)."
            )
        try:
            require_raw(self.model)
        except ValueError as err:
            raise TargetError(str(err)) from err
        if not getattr(self.tokenizer, "is_fast", True):
            raise TargetError(
                f"the tokenizer of {self.name!r} is a {type(self.tokenizer).__name__}, written in Python, which does "
                "not say which characters a token stands for; expected a fast one (tokenizer.json). Convert it with "
                "AutoTokenizer.from_pretrained(folder, use_fast=True).save_pretrained(folder), or take another target."
            )

    def __repr__(self) -> str:
        """Return name, revision and shape; the modules would fill pages."""
        revision = f" at {self.revision}" if self.revision else ""
        return f"<Target {self.name!r}{revision}: {self.n_layers} layers of width {self.d_model} on {self.device}>"

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.model.cfg.d_model)

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return int(self.model.cfg.n_layers)

    @property
    def device(self) -> torch.device:
        """Device that the model runs on."""
        return torch.device(self.model.cfg.device or "cpu")

    @property
    def n_ctx(self) -> int:
        """Longest input in tokens."""
        return int(self.model.cfg.n_ctx)

    @contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        """Seed torch's random numbers inside the ``with`` body; the global state is left as it was."""
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield

    def fingerprint(self) -> str:
        """Return what tells the model from others of its shape (see ``hooks.fingerprint``)."""
        return fingerprint(self.model)
