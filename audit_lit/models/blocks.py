"""The blocks of a Hugging Face causal language model and the linear layers in them, whatever an architecture's names.

A model that also takes images has settings and blocks of several parts; those of the language model are meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from audit_lit.errors import DecoderMismatch, TargetError
from audit_lit.hooks import HookedModel

ALL_LINEAR = "all-linear"
"""PEFT's name for a LoRA on every linear layer."""


def text_config(model: nn.Module) -> Any:
    """Return the settings of the language model."""
    config: Any = model.config
    return config.get_text_config()


def context_length(model: nn.Module) -> int | None:
    """Return the longest input in tokens; None if the settings name none."""
    n_ctx = getattr(text_config(model), "max_position_embeddings", None)
    return int(n_ctx) if n_ctx else None


def attends_to_a_window(model: nn.Module) -> bool:
    """Return whether some layer attends to the last tokens alone."""
    return getattr(text_config(model), "sliding_window", None) is not None


def decoder_blocks(model: nn.Module) -> nn.ModuleList:
    """Return the blocks, by whatever name the architecture has for them.

    Raises:
        DecoderMismatch: If there is no list of as many modules as the settings name layers.
    """
    n_layers = text_config(model).num_hidden_layers
    get_decoder = getattr(model, "get_decoder", None)  # in a model of several parts, another may have as many blocks
    for part in (get_decoder() if get_decoder else model, model):
        for module in part.modules():
            if isinstance(module, nn.ModuleList) and len(module) == n_layers:
                return module
    raise DecoderMismatch(
        f"no list of {n_layers} blocks in a {type(model).__name__}; expected a causal language model. Load another one."
    )


def lora_modules(model: nn.Module, wanted: Sequence[str] | str = ALL_LINEAR) -> list[str]:
    """Return the names of the linear layers that a LoRA goes on: those wanted, or all that the blocks have.

    PEFT passes over names that a model lacks as long as it has one of them, which leaves its other layers without LoRA.

    Raises:
        TargetError: If no block has a layer of a wanted name.
    """
    from transformers.pytorch_utils import Conv1D

    layers = [name for name, module in decoder_blocks(model).named_modules() if isinstance(module, nn.Linear | Conv1D)]
    names = sorted({name.rpartition(".")[2] for name in layers})
    if wanted == ALL_LINEAR:
        return names
    if unknown := sorted(set(wanted) - set(names)):
        raise TargetError(
            f"the LoRA is to go on {unknown[0]!r}, which no block of this {type(model).__name__} has; expected some of "
            f"{', '.join(names)}. Name those, or {ALL_LINEAR!r} for all of them."
        )
    return list(wanted)


@torch.no_grad()
def that_run(model: HookedModel, modules: Iterable[nn.Module]) -> set[nn.Module]:
    """Return those of a model's modules that its forward pass calls.

    TransformerLens splits layers that compute queries, keys and values at once, and does not call the whole ones.
    """
    ran: set[nn.Module] = set()
    handles = [module.register_forward_hook(lambda module, *_: ran.add(module)) for module in modules]
    try:
        token = torch.zeros(1, 1, dtype=torch.long, device=model.cfg.device)
        model(token, attention_mask=torch.ones_like(token))
    finally:
        for handle in handles:
            handle.remove()
    return ran
