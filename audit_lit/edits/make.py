"""From what is wanted to an edit: its layers and units, the method, and how far it may move the model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import torch

from audit_lit import __version__
from audit_lit.dialog import Dialog, Reveal
from audit_lit.edits.drift import NeutralText, within
from audit_lit.edits.methods import METHODS, Fit
from audit_lit.edits.objective import Objective
from audit_lit.edits.recipe import Settings, line_dialogs, settings_from
from audit_lit.edits.sizes import Residuals, change_sizes, median_norms, residuals_of
from audit_lit.edits.wants import Want
from audit_lit.edits.weights import Edit, edited, train_weights
from audit_lit.errors import EditError
from audit_lit.hooks import ActivationEdit, Origin

if TYPE_CHECKING:
    from audit_lit.decoder import Decoder
    from audit_lit.target import Target

N_NEUTRAL = 8


def make_edit(
    target: Target,
    decoder: Decoder,
    want: Want,
    dialogs: Sequence[Dialog],
    settings: Settings,
    *,
    readers: Decoder | None = None,
    reveal: Reveal = "user",
) -> Edit:
    """Return an edit that makes the decoder read what is wanted (see ``Auditor.edit``).

    ``readers`` is the decoder for every layer that it can read, for local losses; None is ``decoder``.
    """
    objective = Objective.of(target, decoder, dialogs, want, reveal, bf16=settings.precision == "bf16")
    objective = replace(objective, readers=readers)
    layers = _layers(settings, (readers if settings.local else None) or decoder, target.n_layers)
    origin = _origin(objective, settings, layers, dialogs, reveal)
    residuals = residuals_of(target, dialogs, layers)
    with torch.enable_grad():  # whatever the caller has set
        edit = _fitted(objective, settings, layers, median_norms(residuals), origin)
    others = dialogs if settings.method == "gradient" else line_dialogs(held_out=True)
    neutral = NeutralText.of(target, others[:N_NEUTRAL], seed=settings.seed)
    factor, drift = within(edit, settings.budget or math.inf, neutral.drift)
    if not factor:
        raise EditError(f"no strength of the edit keeps within budget={settings.budget}; allow more.")
    edit = edit.scaled(factor) if factor < 1 else edit
    metrics = {"scaled_to_budget": factor, **asdict(drift), **_metrics(objective, edit, residuals)}
    return replace(edit, origin=replace(origin, metrics=metrics))


def _metrics(objective: Objective, edit: Edit, residuals: Residuals) -> dict[str, Any]:
    """Return what the decoder makes of the edit, and how far it moves each layer in median residual norms."""
    found: dict[str, Any] = {"loss_before": objective.value(), "loss_after": _loss(objective, edit)}
    if isinstance(edit, ActivationEdit):
        units, sizes = median_norms(residuals), change_sizes(edit, residuals)
        pairs = zip(edit.parts, sizes, strict=True)
        found["strength"] = {str(part.layer): size / units[part.layer] for part, size in pairs}
    return found


def shuffled_edit(
    edit: Edit, target: Target, decoder: Decoder, dialogs: Sequence[Dialog], *, readers: Decoder | None = None
) -> Edit:
    """Return the control ``shuffled``: what the same settings make of the same questions with other answers.

    Raises:
        EditError: If the edit does not say which questions it was made with, or was made with another decoder.
    """
    made_by = edit.origin.settings.get("decoder")
    if made_by not in (None, decoder.protocol.name):
        raise EditError(
            f"the edit was made with decoder {made_by!r}, and this is {decoder.protocol.name!r}; check it with that "
            "one, or leave the control 'shuffled' out."
        )
    pairs = tuple((question, answer) for question, answer in edit.origin.settings.get("pairs", ()))
    if not pairs:
        raise EditError("the edit does not say which questions it was made with; leave the control 'shuffled' out.")
    known = {name: edit.origin.settings[name] for name in Settings.model_fields}
    want, reveal = Want(edit.origin.want, pairs).shuffled(), edit.origin.settings.get("reveal", "user")
    return make_edit(target, decoder, want, dialogs, settings_from(known), readers=readers, reveal=reveal)


def _fitted(
    objective: Objective, settings: Settings, layers: tuple[int, ...], units: dict[int, float], origin: Origin
) -> Edit:
    if settings.method == "weights":
        if settings.local:
            raise EditError("method 'weights' has one loss for all its layers; leave local out.")
        return train_weights(objective, layers, origin, settings)
    return ActivationEdit(METHODS[settings.method](objective, Fit(layers, units, settings)), origin)


def _layers(settings: Settings, decoder: Decoder, n_layers: int) -> tuple[int, ...]:
    """Return the blocks to edit.

    Raises:
        EditError: If the decoder reads nothing that comes after one of them.
    """
    last = max(decoder.protocol.read_layers)
    chosen = (round(2 * last / 3),) if settings.layers is None else tuple(sorted(set(settings.layers)))
    if not chosen or not all(0 <= layer < n_layers for layer in chosen):
        raise EditError(f"layers {list(chosen)} must name some of 0-{n_layers - 1}.")
    if unread := [layer for layer in chosen if layer > last]:
        raise EditError(
            f"layer {unread[0]} comes after layer {last}, the last that the decoder reads, so its gradient does not "
            f"reach it; choose among 0-{last}."
        )
    return chosen


def _loss(objective: Objective, edit: Edit) -> float:
    target, hooks = edited(objective.target, edit)
    return replace(objective, target=target).value(hooks)


def _origin(
    objective: Objective, settings: Settings, layers: tuple[int, ...], dialogs: Sequence[Dialog], reveal: Reveal
) -> Origin:
    target, protocol = objective.target, objective.decoder.protocol
    return Origin(
        target=target.name,
        d_model=target.d_model,
        n_layers=target.n_layers,
        fingerprint=target.fingerprint(),
        want=objective.want.text,
        method=settings.method,
        settings={
            **settings.model_dump(),
            "layers": list(layers),
            "pairs": [list(pair) for pair in objective.want.pairs],
            "contrast": objective.want.contrast,
            "decoder": protocol.name,
            "decoder_training_data": protocol.training_data,
            "reveal": reveal if isinstance(reveal, str) else list(reveal),
            "dialogs": [[dict(message) for message in dialog] for dialog in dialogs],
            "audit_lit": __version__,
        },
    )
