"""What audit-lit needs from a TransformerLens model, as a structural type.

``HookedTransformer`` and ``TransformerBridge`` both match it; nothing here imports TransformerLens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from numbers import Integral
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from audit_lit.errors import SettingsError, TargetError

Hook = tuple[str, Callable[..., Tensor | None]]
"""A hook as data: ``(hook_name, fn)``, what ``model.hooks(fwd_hooks=[...])`` takes."""


@runtime_checkable
class HookedModel(Protocol):
    """What capturing and writing residuals uses of a TransformerLens model."""

    cfg: Any

    def hooks(self, fwd_hooks: Any = ..., bwd_hooks: Any = ...) -> AbstractContextManager[Any]:
        """Attach hooks inside a ``with`` body."""
        ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the forward pass."""
        ...


def is_hooked(model: Any) -> bool:
    """Return whether an object can be used as a ``HookedModel``."""
    return hasattr(model, "cfg") and callable(getattr(model, "hooks", None)) and callable(model)


def resid_post(layer: int) -> str:
    """Return the hook name of block ``layer``'s output."""
    return f"blocks.{layer}.hook_resid_post"


def resolve_layers(layers: Sequence[int], n_layers: int) -> tuple[int, ...]:
    """Return ``layers`` as block indices; negative ones count from the end.

    Raises:
        SettingsError: If a layer does not exist, or no layer is named.
    """
    if not isinstance(layers, Sequence) or isinstance(layers, str | bytes):
        raise SettingsError(f"got layers={layers!r:.80}; expected a list of numbers of blocks.")
    if not layers:
        raise SettingsError(f"no layer named; name at least one of 0-{n_layers - 1}.")
    if outside := [layer for layer in layers if not isinstance(layer, Integral) or not -n_layers <= layer < n_layers]:
        raise SettingsError(
            f"layer {outside[0]!r:.80} is outside a model of {n_layers} layers; use 0-{n_layers - 1}, or negative to "
            "count from the end."
        )
    return tuple(layer % n_layers for layer in layers)


def require_raw(model: HookedModel) -> None:
    """Refuse a model whose weights were folded or centred.

    Processing shifts the residual stream, so a decoder trained on raw activations would silently read something else.

    Raises:
        TargetError: If it is no TransformerLens model, is in compatibility mode, or has folded LayerNorms or centred
            writing weights.
    """
    if not is_hooked(model):
        raise TargetError(
            f"got a {type(model).__name__}; expected a TransformerLens model, such as the model of a target: "
            "audit_lit.load_target(name).model."
        )
    folded = str(getattr(model.cfg, "normalization_type", "") or "").endswith("Pre")
    if folded or getattr(model, "compatibility_mode", False) or _is_centred(model):
        raise TargetError(
            "the model has processed weights (folded LayerNorm, centred weights or compatibility mode), whose "
            "residual stream differs from the raw one; expected raw weights. Load it with "
            "TransformerBridge.boot_transformers(...) and no enable_compatibility_mode(), or with "
            "HookedTransformer.from_pretrained_no_processing(...)."
        )


def _is_centred(model: Any) -> bool:
    """Whether every token embedding has mean zero, which training never gives and no configuration records."""
    embedding = getattr(getattr(model, "embed", None), "W_E", None)
    if embedding is None:
        return False
    rows = embedding[:64].detach().float()
    return bool(rows.mean(-1).abs().max() < 1e-5 * rows.std())
