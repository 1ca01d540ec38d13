"""What an edit is compared with: changes of the same size that the decoder's gradient did not choose, and plain words.

- ``random``: a random direction.
- ``negated``: the same edit with the opposite sign.
- ``shuffled``: an edit made alike, from the same questions with answers that ask for other things.
- ``caa``: the difference of mean residuals under the wanted prompt and under its opposite, or none (contrastive
  activation addition, arXiv 2312.06681), over the same dialogs.
- ``prompting``: no edit; the sentence is the system prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audit_lit.dialog import Dialog, render, reveal_positions
from audit_lit.edits.sizes import residuals_of
from audit_lit.hooks import ActivationEdit, Steer

if TYPE_CHECKING:
    from audit_lit.target import Target


def random_edit(edit: ActivationEdit, sizes: Sequence[float], seed: int = 0) -> ActivationEdit:
    """Return an edit of one random direction per layer, with changes as long as the edit's own.

    Args:
        edit: What it is a control of.
        sizes: Length of the change that each of its parts makes (see ``sizes.change_sizes``).
        seed: Of the directions.
    """
    generator = torch.Generator().manual_seed(seed)
    return _alike(
        edit, {at: torch.randn(edit.origin.d_model, generator=generator) for at in edit.layers}, sizes, "random"
    )


def caa_edit(
    edit: ActivationEdit,
    sizes: Sequence[float],
    target: Target,
    prompt: str,
    dialogs: Sequence[Dialog],
    contrast: str | None = None,
) -> ActivationEdit:
    """Return the edit along the difference of mean residuals under a system prompt and its opposite, of equal size.

    Args:
        edit: What it is a control of.
        sizes: See ``random_edit``.
        target: The model.
        prompt: What is wanted.
        dialogs: Where the residuals are read.
        contrast: The opposite; None takes no system prompt.
    """
    differences = {layer: torch.zeros(target.d_model, device=target.device) for layer in edit.layers}
    for dialog in dialogs:
        other = dialog if contrast is None else with_system(dialog, contrast)
        prompted, plain = (_mean(target, one, edit.layers) for one in (with_system(dialog, prompt), other))
        for layer, sum_so_far in differences.items():
            sum_so_far += prompted[layer] - plain[layer]
    return _alike(edit, differences, sizes, "caa")


def _alike(
    edit: ActivationEdit, directions: Mapping[int, Float[Tensor, " d_model"]], sizes: Sequence[float], method: str
) -> ActivationEdit:
    """Return an edit that adds a direction where each part of another makes its change, of the same size."""
    parts = tuple(
        Steer(
            layer=part.layer,
            direction=nn.functional.normalize(directions[part.layer], dim=-1),
            strength=size,
            positions=part.positions,
            n_prompt=part.n_prompt,
        )
        for part, size in zip(edit.parts, sizes, strict=True)
    )
    return ActivationEdit(parts, replace(edit.origin, method=method, metrics={}))


def with_system(dialog: Dialog, text: str) -> Dialog:
    """Return a dialog under a system prompt, in place of its own if it has one."""
    rest = [message for message in dialog if message["role"] != "system"]
    return [{"role": "system", "content": text}, *rest]


def _mean(target: Target, dialog: Dialog, layers: Sequence[int]) -> dict[int, Float[Tensor, " d_model"]]:
    """Return the mean residual over the last user turn and the reply's header."""
    positions = list(reveal_positions(render(dialog, target.tokenizer), "user"))
    return {layer: resid[positions].mean(0) for layer, resid in residuals_of(target, [dialog], layers).items()}
