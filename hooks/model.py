"""What audit-lit needs from a TransformerLens model, typed by structure.

``HookedTransformer`` and ``TransformerBridge`` both fit; nothing here imports TransformerLens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

Hook = tuple[str, Callable[..., Tensor | None]]
"""A hook as data: ``(hook_name, fn)``, what ``model.hooks(fwd_hooks=[...])`` takes."""


@runtime_checkable
class HookedModel(Protocol):
    """The part of a TransformerLens model that reading and writing residuals uses."""

    cfg: Any

    def hooks(self, fwd_hooks: Any = ..., bwd_hooks: Any = ...) -> AbstractContextManager[Any]:
        """Attach hooks for the length of a ``with`` block."""
        ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the forward pass."""
        ...


def resid_post(layer: int) -> str:
    """Return the hook name of block ``layer``'s output."""
    return f"blocks.{layer}.hook_resid_post"


def resolve_layers(layers: Sequence[int], n_layers: int) -> tuple[int, ...]:
    """Return ``layers`` as block indices; negative ones count from the end.

    Raises:
        ValueError: If a layer does not exist, or none is named.
    """
    if not layers:
        raise ValueError(f"no layer named; name at least one of 0-{n_layers - 1}.")
    for layer in layers:
        if not -n_layers <= layer < n_layers:
            raise ValueError(
                f"layer {layer} is outside a model of {n_layers} layers; "
                f"use 0-{n_layers - 1}, or negative to count from the end."
            )
    return tuple(layer % n_layers for layer in layers)


def require_raw(model: HookedModel) -> None:
    """Refuse a model whose weights were folded or centred.

    Processing shifts the residual stream, so a decoder trained on raw activations would answer
    about something else without any error.

    Raises:
        ValueError: If the model is in compatibility mode, or has folded LayerNorms or centred writing weights.
    """
    folded = str(getattr(model.cfg, "normalization_type", "") or "").endswith("Pre")
    if folded or getattr(model, "compatibility_mode", False) or _is_centred(model):
        raise ValueError(
            "the model has processed weights (folded LayerNorm, centred weights or compatibility mode), whose "
            "residual stream differs from the raw one; expected raw weights. Load it with "
            "TransformerBridge.boot_transformers(...) and no enable_compatibility_mode(), or with "
            "HookedTransformer.from_pretrained_no_processing(...)."
        )


def _is_centred(model: Any) -> bool:
    """Whether every token embedding has mean zero: no configuration says so, but training never ends there."""
    embedding = getattr(getattr(model, "embed", None), "W_E", None)
    if embedding is None:
        return False
    rows = embedding[:64].detach().float()
    return bool(rows.mean(-1).abs().max() < 1e-5 * rows.std())


def fingerprint(model: Any) -> str:
    """Return a hash of the first token embeddings, rounded to bfloat16.

    It is the same for HookedTransformer and TransformerBridge, for float32 and bfloat16 copies, and for fine-tunes that
    leave the embeddings alone: those, a decoder or an edit of the original fits.
    """
    rows = model.embed.W_E[:64].detach().to("cpu", torch.bfloat16).contiguous().view(torch.int16)
    return hashlib.sha256(rows.numpy().tobytes()).hexdigest()[:16]
