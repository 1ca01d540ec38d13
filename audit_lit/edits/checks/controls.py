"""The controls of an edit: changes of the same size that the decoder's gradient did not choose, and plain words.

- ``random``: a random direction.
- ``negated``: the same edit with the opposite sign.
- ``shuffled``: an edit made with the same settings, from the same questions with answers that ask for other things.
- ``caa``: the difference of mean residuals under the goal as a system prompt and under its opposite, or no system
  prompt (contrastive activation addition, arXiv 2312.06681), over the same dialogs.
- ``prompting``: no edit; the goal is the system prompt.
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
from audit_lit.edits.make import capture_residuals, change_sizes, make_edit
from audit_lit.edits.recipe import Provenance, settings_of
from audit_lit.edits.weights import Edit
from audit_lit.errors import EditError
from audit_lit.hooks import ActivationEdit, Steer
from audit_lit.models.target import Target

EDIT = "edit"
EPS = 1e-12


def controls_of(
    edit: Edit, target: Target, dialogs: Sequence[Dialog], prompt: str, shuffled: Edit | None, seed: int
) -> dict[str, Edit]:
    """Return an edit and its controls by name, of the edit's size in some dialogs; ``shuffled`` is scaled to it."""
    edits: dict[str, Edit] = {EDIT: edit, "negated": edit.scaled(-1.0)}
    if shuffled is not None:
        edits["shuffled"] = shuffled
    if isinstance(edit, ActivationEdit):
        residuals = capture_residuals(target, dialogs, edit.layers)
        sizes = change_sizes(edit, residuals)
        if isinstance(shuffled, ActivationEdit):
            edits["shuffled"] = shuffled.scaled(sum(sizes) / max(sum(change_sizes(shuffled, residuals)), EPS))
        edits["random"] = random_edit(edit, sizes, seed)
        edits["caa"] = caa_edit(edit, sizes, target, prompt, dialogs, Provenance.of(edit.origin).contrast)
    return edits


def random_edit(edit: ActivationEdit, sizes: Sequence[float], seed: int = 0) -> ActivationEdit:
    """Return an edit of one random direction per layer, with changes of the edit's own ``change_sizes``."""
    generator = torch.Generator().manual_seed(seed)
    directions = {layer: torch.randn(edit.origin.d_model, generator=generator) for layer in edit.layers}
    return _along(directions, edit, sizes, "random")


def caa_edit(
    edit: ActivationEdit,
    sizes: Sequence[float],
    target: Target,
    prompt: str,
    dialogs: Sequence[Dialog],
    contrast: str | None = None,
) -> ActivationEdit:
    """Return an edit along the difference of mean residuals under the goal and under its opposite (see the module)."""
    differences = {layer: torch.zeros(target.d_model, device=target.device) for layer in edit.layers}
    for dialog in dialogs:
        opposite = dialog if contrast is None else with_system(dialog, contrast)
        prompted, plain = (_mean(target, variant, edit.layers) for variant in (with_system(dialog, prompt), opposite))
        for layer, difference in differences.items():
            difference += prompted[layer] - plain[layer]
    return _along(differences, edit, sizes, "caa")


def _along(
    directions: Mapping[int, Float[Tensor, " d_model"]], edit: ActivationEdit, sizes: Sequence[float], method: str
) -> ActivationEdit:
    """Return an edit that adds a direction wherever another edit makes a change, of the same size."""
    interventions = tuple(
        Steer(
            layer=change.layer,
            direction=nn.functional.normalize(directions[change.layer], dim=-1),
            strength=size,
            positions=change.positions,
            n_prompt=change.n_prompt,
            prompt=change.prompt,
            padding=change.padding,
        )
        for change, size in zip(edit.interventions, sizes, strict=True)
    )
    return ActivationEdit(interventions, replace(edit.origin, method=method, metrics={}))


def _mean(target: Target, dialog: Dialog, layers: Sequence[int]) -> dict[int, Float[Tensor, " d_model"]]:
    """Return the mean residual of each layer over the last user turn and the header of the reply."""
    positions = list(reveal_positions(render(dialog, target.tokenizer), "user"))
    return {layer: resid[positions].mean(0) for layer, resid in capture_residuals(target, [dialog], layers).items()}


def shuffled_edit(edit: Edit, session: Session, dialogs: Sequence[Dialog]) -> Edit:
    """Return the control ``shuffled``; the decoder of the session must be the one that the edit was made with."""
    provenance, decoder = Provenance.of(edit.origin), session.decoder.config.name
    if provenance.decoder not in (None, decoder):
        raise EditError(
            f"the edit was made with decoder {provenance.decoder!r}, and this is {decoder!r}; check it with that one, "
            "or leave the control 'shuffled' out."
        )
    if not provenance.pairs:
        raise EditError("the edit does not say which questions it was made with; leave the control 'shuffled' out.")
    goal = Goal(edit.origin.goal, provenance.pairs).shuffled()
    return make_edit(session, goal, dialogs, settings_of(edit.origin), reveal=provenance.reveal)
