"""Turn rows of unequal length into one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Int
from torch import Tensor

if TYPE_CHECKING:
    from audit_lit.models.target import Target


def pad_left(
    rows: Sequence[Sequence[int]], target: Target
) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch pos"]]:
    """Return ragged rows as one tensor, padded on the left, and the attention mask."""
    longest = max(len(row) for row in rows)
    pad = target.tokenizer.pad_token_id or 0
    tokens = torch.tensor([[pad] * (longest - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    return tokens.to(target.device), mask.to(target.device)


def pad_right(rows: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "batch slot"], Bool[Tensor, "batch slot"]]:
    """Return ragged rows as one tensor, padded with 0 on the right, and where they are real."""
    longest = max(len(row) for row in rows)
    values = torch.tensor([list(row) + [0] * (longest - len(row)) for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    return values, torch.arange(longest) < lengths[:, None]
