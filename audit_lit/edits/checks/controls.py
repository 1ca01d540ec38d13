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

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audit_lit.answers.session import Session
from audit_lit.chat.dialog import Dialog, with_system
from audit_lit.chat.positions import reveal_positions
from audit_lit.chat.rendering import render
from audit_lit.edits.goal import Goal
from audit_lit.edits.make import make_edit
from audit_lit.edits.provenance import Provenance
from audit_lit.edits.sizes import capture_residuals
from audit_lit.edits.weights import Edit
from audit_lit.errors import EditError
from audit_lit.hooks import ActivationEdit, Steer
from audit_lit.models.target import Target


def random_edit(edit: ActivationEdit, sizes: Sequence[float], seed: int = 0) -> ActivationEdit:
    """Return an edit of one random direction per layer, with changes as long as the edit's own.

    Args:
        edit: What it is a control of.
        sizes: Length of the change that each of its interventions makes (see ``sizes.change_sizes``).
        seed: Of the directions.
    """
    generator = torch.Generator().manual_seed(seed)
    return _alike(
        edit, {layer: torch.randn(edit.origin.d_model, generator=generator) for layer in edit.layers}, sizes, "random"
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
        prompted, plain = (_mean(target, variant, edit.layers) for variant in (with_system(dialog, prompt), other))
        for layer, sum_so_far in differences.items():
            sum_so_far += prompted[layer] - plain[layer]
    return _alike(edit, differences, sizes, "caa")


def _alike(
    edit: ActivationEdit, directions: Mapping[int, Float[Tensor, " d_model"]], sizes: Sequence[float], method: str
) -> ActivationEdit:
    """Return an edit that adds a direction wherever another makes a change, of the same size."""
    interventions = tuple(
        Steer(
            layer=change.layer,
            direction=nn.functional.normalize(directions[change.layer], dim=-1),
            strength=size,
            positions=change.positions,
            n_prompt=change.n_prompt,
        )
        for change, size in zip(edit.interventions, sizes, strict=True)
    )
    return ActivationEdit(interventions, replace(edit.origin, method=method, metrics={}))


def _mean(target: Target, dialog: Dialog, layers: Sequence[int]) -> dict[int, Float[Tensor, " d_model"]]:
    """Return the mean residual over the last user turn and the reply's header."""
    positions = list(reveal_positions(render(dialog, target.tokenizer), "user"))
    return {layer: resid[positions].mean(0) for layer, resid in capture_residuals(target, [dialog], layers).items()}


def shuffled_edit(edit: Edit, session: Session, dialogs: Sequence[Dialog]) -> Edit:
    """Return the control ``shuffled``: what the same settings make of the same questions with other answers.

    Raises:
        EditError: If the edit does not say which questions it was made with, or was made with another decoder.
    """
    provenance, name = Provenance.of(edit.origin), session.decoder.config.name
    if provenance.decoder not in (None, name):
        raise EditError(
            f"the edit was made with decoder {provenance.decoder!r}, and this is {name!r}; check it with that one, or "
            "leave the control 'shuffled' out."
        )
    if not provenance.pairs:
        raise EditError("the edit does not say which questions it was made with; leave the control 'shuffled' out.")
    goal = Goal(edit.origin.goal, provenance.pairs).shuffled()
    return make_edit(session, goal, dialogs, provenance.settings(), reveal=provenance.reveal)
