"""Capture the residual stream at chosen layers and positions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import repeat
from jaxtyping import Float, Int
from torch import Tensor

from audit_lit.errors import ActivationError
from audit_lit.hooks.model import Hook, HookedModel, require_raw, resid_post, resolve_layers


def capture(
    model: HookedModel,
    tokens: Int[Tensor, "batch pos"],
    attention_mask: Int[Tensor, "batch pos"],
    layers: Sequence[int],
    *,
    positions: Int[Tensor, "batch slot"] | None = None,
    grad: bool = False,
) -> dict[int, Float[Tensor, "batch read d_model"]]:
    """Return the residual stream after each of ``layers``; blocks above the highest do not run.

    Args:
        model: Any TransformerLens model with raw weights.
        tokens: Token ids, padded on the left.
        attention_mask: 1 at tokens, 0 at padding. It is required, since some TransformerLens versions do not infer it
            and then read garbage.
        layers: Block indices; negative ones count from the end.
        positions: The columns to keep in each row; None keeps all.
        grad: Whether to keep the graph, so that a loss on the result reaches the model and its hooks.

    Returns:
        Layer index (never negative) to activations, in the order of ``layers``, on the device of ``tokens``: the blocks
        of a model that is split have several.

    Raises:
        SettingsError: If a layer does not exist.
        TargetError: If it is no TransformerLens model, or its weights are processed.
        ActivationError: If tokens, mask and positions do not fit each other.
        RuntimeError: If the model never reached a hook point.
    """
    require_raw(model)
    layers = resolve_layers(layers, model.cfg.n_layers)
    _check_input(tokens, attention_mask, positions)
    cache: dict[int, Tensor] = {}

    def keep(layer: int) -> Hook:
        def read(resid: Tensor, *, hook: object) -> None:
            kept = (resid if positions is None else take(resid, positions)).to(tokens.device)
            cache[layer] = kept if grad else kept.detach().clone()

        return resid_post(layer), read

    with torch.set_grad_enabled(bool(grad)), model.hooks(fwd_hooks=[keep(layer) for layer in layers]):
        model(tokens, attention_mask=attention_mask, stop_at_layer=max(layers) + 1)
    if missing := [layer for layer in layers if layer not in cache]:
        raise RuntimeError(f"the model has no hook point {resid_post(missing[0])!r}; expected a TransformerLens model.")
    return {layer: cache[layer] for layer in layers}


def _check_input(tokens: object, attention_mask: object, positions: object) -> None:
    """Raise unless there are tokens and a mask of one shape, and positions for each row."""
    tensors = {"tokens": tokens, "attention_mask": attention_mask} | (
        {} if positions is None else {"positions": positions}
    )
    for name, value in tensors.items():
        if not isinstance(value, Tensor) or value.ndim != 2 or value.is_floating_point():
            raise ActivationError(f"got {name}={value!r:.80}; expected a tensor of integers, with a row for each text.")
    shapes = {name: tuple(value.shape) for name, value in tensors.items() if isinstance(value, Tensor)}
    n_rows = {shape[0] for shape in shapes.values()}
    if shapes["tokens"] != shapes["attention_mask"] or len(n_rows) > 1 or not all(shapes["tokens"]):
        raise ActivationError(
            f"got shapes {shapes}; expected those of tokens and mask to be equal, and a row for each."
        )


def take(
    resid: Float[Tensor, "batch pos d_model"], positions: Int[Tensor, "batch slot"]
) -> Float[Tensor, "batch slot d_model"]:
    """Return the rows of ``resid`` at ``positions``."""
    index = repeat(positions.to(resid.device), "batch slot -> batch slot d", d=resid.shape[-1])
    return resid.gather(1, index)
