"""Run a target over rendered dialogs and keep the activations of chosen positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from audit_lit.chat.dialog import RenderedDialog
from audit_lit.errors import DialogError
from audit_lit.hooks import capture, resolve_layers
from audit_lit.models.activations import Activations
from audit_lit.models.padding import pad_left, pad_right

if TYPE_CHECKING:
    from audit_lit.models.target import Target


def capture_batch(
    target: Target,
    dialogs: Sequence[RenderedDialog],
    positions: Sequence[Sequence[int]],
    layers: Sequence[int],
    *,
    grad: bool = False,
) -> Activations:
    """Run the target once over a batch of dialogs and keep the chosen positions.

    Args:
        target: The model to read.
        dialogs: Rendered dialogs; shorter ones are padded on the left.
        positions: Token positions per dialog.
        layers: Read layers.
        grad: Keep the graph (see ``capture``).

    Raises:
        DialogError: If a dialog is longer than the target's context.
    """
    layers = resolve_layers(layers, target.n_layers)
    longest = max(len(dialog.token_ids) for dialog in dialogs)
    if longest > target.n_ctx:
        raise DialogError(
            f"the dialog has {longest} tokens; the target's context holds {target.n_ctx}. Drop or shorten turns."
        )
    tokens, attention_mask = pad_left([dialog.token_ids for dialog in dialogs], target)
    places, mask = pad_right(positions)
    shift = torch.tensor([longest - len(dialog.token_ids) for dialog in dialogs])
    columns = (places + shift[:, None]).to(target.device)
    cache = capture(target.model, tokens, attention_mask, layers, positions=columns, grad=grad)
    mask = mask.to(target.device)
    resid = torch.stack([cache[layer] for layer in layers], dim=1) * mask[:, None, :, None]
    return Activations(
        resid=resid,
        mask=mask,
        token_ids=tokens.gather(1, columns),
        positions=places.to(target.device),
        n_hidden=torch.tensor([dialog.n_hidden for dialog in dialogs], device=target.device),
        layers=layers,
        source=target.name,
    )


def capture_dialogs(
    target: Target,
    dialogs: Sequence[RenderedDialog],
    positions: Sequence[Sequence[int]],
    layers: Sequence[int],
    *,
    batch_size: int = 16,
) -> Activations:
    """Read any number of dialogs in batches of similar length, so that little padding is computed; order is kept."""
    order = sorted(range(len(dialogs)), key=lambda index: len(dialogs[index].token_ids))
    parts = []
    for start in range(0, len(order), batch_size):
        chunk = order[start : start + batch_size]
        parts.append(capture_batch(target, [dialogs[i] for i in chunk], [positions[i] for i in chunk], layers))
    inverse = sorted(range(len(order)), key=order.__getitem__)
    return Activations.cat(parts).rows(inverse)
