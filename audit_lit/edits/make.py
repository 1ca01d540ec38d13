"""Make an edit of a goal: choose its layers, fit it by a method, and scale it to its budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from audit_lit.answers.session import Session
from audit_lit.chat.arguments import many_dialogs
from audit_lit.chat.dialog import Dialog, Reveal
from audit_lit.chat.messages import read_dialog
from audit_lit.chat.rendering import render
from audit_lit.decoder.decoder import Decoder
from audit_lit.edits.drift import Drift, NeutralText, largest_factor
from audit_lit.edits.goal import Goal, GoalLike, goal_of
from audit_lit.edits.methods import METHODS, Fit
from audit_lit.edits.objective import Objective
from audit_lit.edits.recipe import EditSettings, Provenance, edit_settings, line_dialogs
from audit_lit.edits.weights import Edit, edited_target, train_weights
from audit_lit.errors import EditError
from audit_lit.hooks import ActivationEdit, Origin, capture
from audit_lit.models.target import Target

N_NEUTRAL = 8
"""Number of neutral dialogs in which drift is measured."""

Residuals = Mapping[int, Float[Tensor, "token d_model"]]
"""Residuals of tokens, by layer."""


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
    made_in = line_dialogs() if dialogs is None else list(map(read_dialog, many_dialogs(dialogs)))
    wanted = goal_of(goal, session, made_in).reworded(prompt, contrast)
    return make_edit(session, wanted, made_in, checked, reveal=reveal)


def make_edit(
    session: Session, goal: Goal, dialogs: Sequence[Dialog], settings: EditSettings, *, reveal: Reveal = "user"
) -> Edit:
    """Return an edit, made in some dialogs, under which the decoder reads the goal in the target."""
    target = session.target
    objective = Objective.of(session, dialogs, goal, reveal, bf16=settings.precision == "bf16")
    layers = _layers(settings, session.full_decoder if settings.local else session.decoder, target.n_layers)
    origin = _origin(objective, settings, layers, dialogs, reveal)
    residuals = capture_residuals(target, dialogs, layers)
    with torch.enable_grad():  # whatever the caller has set
        fitted = _fit(objective, settings, layers, median_norms(residuals), origin)
    factor, drift = _largest_factor(fitted, target, dialogs, settings)
    fitted = fitted.scaled(factor) if factor < 1 else fitted
    metrics = {"scaled_to_budget": factor, **asdict(drift), **_metrics(objective, fitted, residuals)}
    return replace(fitted, origin=replace(origin, metrics=metrics))


def _largest_factor(
    fitted: Edit, target: Target, dialogs: Sequence[Dialog], settings: EditSettings
) -> tuple[float, Drift]:
    neutral_dialogs = dialogs if settings.method == "gradient" else line_dialogs(held_out=True)
    neutral = NeutralText.of(target, neutral_dialogs[:N_NEUTRAL], seed=settings.seed)
    factor, drift = largest_factor(fitted, settings.budget or math.inf, neutral.drift)
    if not factor:
        raise EditError(f"no strength of the edit keeps within budget={settings.budget}; raise the budget.")
    return factor, drift


def _metrics(objective: Objective, fitted: Edit, residuals: Residuals) -> dict[str, Any]:
    """Return the decoder's loss without and with the edit, and the edit's strength in median residual norms."""
    edited, hooks = edited_target(objective.target, fitted)
    metrics: dict[str, Any] = {"loss_before": objective.value(), "loss_after": objective.on(edited).value(hooks)}
    if isinstance(fitted, ActivationEdit):
        units, sizes = median_norms(residuals), change_sizes(fitted, residuals)
        sized = zip(fitted.interventions, sizes, strict=True)
        metrics["strength"] = {str(change.layer): size / units[change.layer] for change, size in sized}
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
    """Return the blocks to edit, none of which comes after all that the decoder reads."""
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


def _origin(
    objective: Objective, settings: EditSettings, layers: tuple[int, ...], dialogs: Sequence[Dialog], reveal: Reveal
) -> Origin:
    target, config = objective.target, objective.decoder.config
    used = settings.model_copy(update={"layers": layers})
    provenance = Provenance(
        pairs=objective.goal.pairs,
        contrast=objective.goal.contrast,
        decoder=config.name,
        decoder_training_data=config.training_data,
        reveal=reveal if isinstance(reveal, str) else tuple(reveal),
        dialogs=tuple(tuple(dict(message) for message in dialog) for dialog in dialogs),
        audit_lit=version("audit-lit"),
    )
    return Origin(
        target=target.name,
        d_model=target.d_model,
        n_layers=target.n_layers,
        fingerprint=target.fingerprint(),
        goal=objective.goal.text,
        method=settings.method,
        settings=used.model_dump(mode="json") | provenance.model_dump(mode="json"),
    )


def capture_residuals(target: Target, dialogs: Sequence[Dialog], layers: Sequence[int]) -> Residuals:
    """Return the unedited residuals of every token of the dialogs, in float32."""
    captured = []
    for dialog in dialogs:
        tokens = torch.tensor([render(dialog, target.tokenizer).token_ids], device=target.device)
        captured.append(capture(target.model, tokens, torch.ones_like(tokens), layers))
    return {layer: torch.cat([by_layer[layer][0].float() for by_layer in captured]) for layer in layers}


def median_norms(residuals: Residuals) -> dict[int, float]:
    """Return the median residual norm of each layer: the unit of strength, which attention sinks do not inflate."""
    return {layer: float(resid.norm(dim=-1).median()) for layer, resid in residuals.items()}


def change_sizes(edit: ActivationEdit, residuals: Residuals) -> list[float]:
    """Return the median length of the change that each intervention makes, in the units of the residual stream."""
    sizes = []
    for intervention in edit.interventions:
        resid, positions = residuals[intervention.layer], intervention.positions
        changes = intervention.strength * intervention.change(resid if positions is None else resid[list(positions)])
        sizes.append(float(changes.reshape(-1, changes.shape[-1]).norm(dim=-1).median()))
    return sizes
