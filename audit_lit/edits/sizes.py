"""How long residuals and the changes of an edit are: the unit of strength, and what controls are made equal by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from audit_lit.chat.dialog import Dialog
from audit_lit.chat.rendering import render
from audit_lit.hooks import ActivationEdit, capture

if TYPE_CHECKING:
    from audit_lit.models.target import Target

Residuals = Mapping[int, Float[Tensor, "token d_model"]]
"""By layer."""


def capture_residuals(target: Target, dialogs: Sequence[Dialog], layers: Sequence[int]) -> Residuals:
    """Return the unedited residuals of every token of some dialogs, in float32."""
    rows = []
    for dialog in dialogs:
        tokens = torch.tensor([render(dialog, target.tokenizer).token_ids], device=target.device)
        rows.append(capture(target.model, tokens, torch.ones_like(tokens), layers))
    return {layer: torch.cat([row[layer][0].float() for row in rows]) for layer in layers}


def median_norms(residuals: Residuals) -> dict[int, float]:
    """Return the median residual norm of each layer: the unit of strength, which attention sinks do not set."""
    return {layer: float(resid.norm(dim=-1).median()) for layer, resid in residuals.items()}


def change_sizes(edit: ActivationEdit, residuals: Residuals) -> list[float]:
    """Return the median length of the change that each intervention makes, in units of the residual stream itself."""
    sizes = []
    for intervention in edit.interventions:
        resid, positions = residuals[intervention.layer], intervention.positions
        changes = intervention.strength * intervention.change(resid if positions is None else resid[list(positions)])
        sizes.append(float(changes.reshape(-1, changes.shape[-1]).norm(dim=-1).median()))
    return sizes
