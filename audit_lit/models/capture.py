"""Run a target over rendered dialogs and keep the activations of chosen positions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from audit_lit.chat.dialog import RenderedDialog
from audit_lit.errors import DialogError
from audit_lit.hooks import capture, resolve_layers
from audit_lit.models.activations import Activations
from audit_lit.models.target import Target


def pad_left(
    rows: Sequence[Sequence[int]], target: Target
) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch pos"]]:
    """Return rows of tokens as one tensor, padded on the left, and its attention mask."""
    longest = max(len(row) for row in rows)
    pad = target.tokenizer.pad_token_id or 0
    tokens = torch.tensor([[pad] * (longest - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    return tokens.to(target.device), mask.to(target.device)


def pad_right(rows: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "batch slot"], Bool[Tensor, "batch slot"]]:
    """Return rows as one tensor, padded with 0 on the right, and a mask that is false at padding."""
    longest = max(len(row) for row in rows)
    values = torch.tensor([list(row) + [0] * (longest - len(row)) for row in rows])
    return values, torch.arange(longest) < torch.tensor([[len(row)] for row in rows])


def capture_batch(
    target: Target,
    dialogs: Sequence[RenderedDialog],
    positions: Sequence[Sequence[int]],
    layers: Sequence[int],
    *,
    grad: bool = False,
) -> Activations:
    """Run the target once over dialogs and keep the ``positions`` of each, or what their slots receive instead.

    ``grad`` keeps the graph.
    """
    layers = resolve_layers(layers, target.n_layers)
    tokens, attention_mask = pad_left([dialog.token_ids for dialog in dialogs], target)
    if (longest := tokens.shape[1]) > target.n_ctx:
        raise DialogError(
            f"the dialog has {longest} tokens; the target's context holds {target.n_ctx}. Drop or shorten turns."
        )
    read = [dialog.slot_positions(row) for dialog, row in zip(dialogs, positions, strict=True)]
    padded_positions, mask = (values.to(target.device) for values in pad_right(read))
    columns = padded_positions + (attention_mask == 0).sum(1, keepdim=True)
    cache = capture(target.model, tokens, attention_mask, layers, positions=columns, grad=grad)
    return Activations(
        resid=torch.stack([cache[layer] for layer in layers], dim=1) * mask[:, None, :, None],
        mask=mask,
        token_ids=tokens.gather(1, columns),
        positions=padded_positions,
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
    """Read any number of dialogs, in batches of similar length so that little padding is computed; order is kept."""
    order = sorted(range(len(dialogs)), key=lambda index: len(dialogs[index].token_ids))
    parts = []
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        batch_positions = [positions[index] for index in batch]
        parts.append(capture_batch(target, [dialogs[index] for index in batch], batch_positions, layers))
    return Activations.cat(parts).rows(sorted(range(len(order)), key=order.__getitem__))
