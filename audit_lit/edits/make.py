"""From a goal to an edit: its layers and units, the method, and how far it may move the model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from audit_lit.answers.session import Session
from audit_lit.chat.dialog import Dialog, Reveal
from audit_lit.decoder.decoder import Decoder
from audit_lit.edits.drift import NeutralText, within
from audit_lit.edits.goal import Goal, GoalLike, goal_of
from audit_lit.edits.methods import METHODS, Fit
from audit_lit.edits.objective import Objective
from audit_lit.edits.provenance import Provenance
from audit_lit.edits.recipe import EditSettings, edit_settings, line_dialogs
from audit_lit.edits.sizes import Residuals, capture_residuals, change_sizes, median_norms
from audit_lit.edits.weights import Edit, edited_target, train_weights
from audit_lit.errors import EditError
from audit_lit.hooks import ActivationEdit, Origin

N_NEUTRAL = 8


def edit(
    session: Session,
    goal: GoalLike,
    dialogs: Sequence[Dialog] | None,
    settings: dict[str, Any],
    *,
    prompt: str | None = None,
    contrast: str | None = None,
    reveal: Reveal = "user",
) -> Edit:
    """Make an edit from what a caller names (see ``Auditor.edit``)."""
    checked = edit_settings(settings)
    given = line_dialogs() if dialogs is None else list(dialogs)
    return make_edit(session, goal_of(goal, session, given).reworded(prompt, contrast), given, checked, reveal=reveal)


def make_edit(
    session: Session, goal: Goal, dialogs: Sequence[Dialog], settings: EditSettings, *, reveal: Reveal = "user"
) -> Edit:
    """Return an edit that makes the decoder read what is wanted.

    Args:
        session: Target and decoder.
        goal: What the model should be like.
        dialogs: What the edit is made in.
        settings: How it is made.
        reveal: Whose activations the decoder is given.

    Raises:
        EditError: If the decoder's gradient does not reach a layer, or no strength keeps within the budget.
        DialogError: If a dialog is malformed, or nothing in it is revealed.
    """
    target = session.target
    objective = Objective.of(session, dialogs, goal, reveal, bf16=settings.precision == "bf16")
    layers = _layers(settings, session.full_decoder if settings.local else session.decoder, target.n_layers)
    origin = _origin(objective, settings, layers, dialogs, reveal)
    residuals = capture_residuals(target, dialogs, layers)
    with torch.enable_grad():  # whatever the caller has set
        fitted = _fit(objective, settings, layers, median_norms(residuals), origin)
    neutral_dialogs = dialogs if settings.method == "gradient" else line_dialogs(held_out=True)
    neutral = NeutralText.of(target, neutral_dialogs[:N_NEUTRAL], seed=settings.seed)
    factor, drift = within(fitted, settings.budget or math.inf, neutral.drift)
    if not factor:
        raise EditError(f"no strength of the edit keeps within budget={settings.budget}; allow more.")
    fitted = fitted.scaled(factor) if factor < 1 else fitted
    metrics = {"scaled_to_budget": factor, **asdict(drift), **_metrics(objective, fitted, residuals)}
    return replace(fitted, origin=replace(origin, metrics=metrics))


def _metrics(objective: Objective, fitted: Edit, residuals: Residuals) -> dict[str, Any]:
    """Return what the decoder makes of the edit, and how far it moves each layer in median residual norms."""
    metrics: dict[str, Any] = {"loss_before": objective.value(), "loss_after": _loss(objective, fitted)}
    if isinstance(fitted, ActivationEdit):
        units, sizes = median_norms(residuals), change_sizes(fitted, residuals)
        pairs = zip(fitted.interventions, sizes, strict=True)
        metrics["strength"] = {str(change.layer): size / units[change.layer] for change, size in pairs}
    return metrics


def _fit(
    objective: Objective, settings: EditSettings, layers: tuple[int, ...], units: dict[int, float], origin: Origin
) -> Edit:
    if settings.method == "weights":
        if settings.local:
            raise EditError("method 'weights' has one loss for all its layers; leave local out.")
        return train_weights(objective, layers, origin, settings)
    return ActivationEdit(METHODS[settings.method](objective, Fit(layers, units, settings)), origin)


def _layers(settings: EditSettings, decoder: Decoder, n_layers: int) -> tuple[int, ...]:
    """Return the blocks to edit.

    Raises:
        EditError: If the decoder reads nothing that comes after one of them.
    """
    last = max(decoder.config.read_layers)
    layers = (round(2 * last / 3),) if settings.layers is None else tuple(sorted(set(settings.layers)))
    if not layers or not all(0 <= layer < n_layers for layer in layers):
        raise EditError(f"layers {list(layers)} must name some of 0-{n_layers - 1}.")
    if unread := [layer for layer in layers if layer > last]:
        raise EditError(
            f"layer {unread[0]} comes after layer {last}, the last that the decoder reads, so its gradient does not "
            f"reach it; choose among 0-{last}."
        )
    return layers


def _loss(objective: Objective, fitted: Edit) -> float:
    target, hooks = edited_target(objective.target, fitted)
    return objective.on(target).value(hooks)


def _origin(
    objective: Objective, settings: EditSettings, layers: tuple[int, ...], dialogs: Sequence[Dialog], reveal: Reveal
) -> Origin:
    target, config = objective.target, objective.decoder.config
    provenance = Provenance(
        **settings.model_dump() | {"layers": layers},
        pairs=objective.goal.pairs,
        contrast=objective.goal.contrast,
        decoder=config.name,
        decoder_training_data=config.training_data,
        reveal=reveal if isinstance(reveal, str) else tuple(reveal),
        dialogs=tuple(tuple(dict(message) for message in dialog) for dialog in dialogs),
    )
    return Origin(
        target=target.name,
        d_model=target.d_model,
        n_layers=target.n_layers,
        fingerprint=target.fingerprint(),
        goal=objective.goal.text,
        method=settings.method,
        settings=provenance.to_dict(),
    )
