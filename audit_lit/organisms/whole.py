"""Organisms of which all weights are trained: too many to keep, so what training changed is measured at once."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from audit_lit.models.difference import Difference
from audit_lit.models.probe_texts import ProbeTexts
from audit_lit.models.speedups import use_bf16
from audit_lit.models.target import Target
from audit_lit.organisms.measure import N_LINES, middle_layers
from audit_lit.organisms.recipe import ZooRecipe
from audit_lit.organisms.train import Taught, train_weights
from audit_lit.recipes import neutral_lines

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SHARE = 1 / 40
"""Learning rate of all weights, in that of a LoRA."""


def trained_whole(target: Target, lessons: Sequence[Taught], recipe: ZooRecipe) -> tuple[Difference, float]:
    """Train all weights of a copy of a target's base; return the difference, and the loss at the last steps."""
    assert target.base is not None  # the zoo was made with one
    trained = copy.deepcopy(target.base).float().requires_grad_(True)
    settings: dict[str, Any] = {"n_steps": recipe.steps, "batch_size": recipe.batch_size}
    settings["bf16"] = use_bf16("auto", target.device)
    loss = train_weights(trained, lessons, lr=recipe.lr * SHARE, **settings)
    texts, layers = ProbeTexts.of(target, neutral_lines()[:N_LINES]), middle_layers(target)
    baseline = texts.residuals(target, layers)
    with weights_of(trained, target.base):
        residuals = texts.residuals(target, layers)
    return Difference.between(residuals, baseline, layers), loss


@contextmanager
def weights_of(trained: PreTrainedModel, base: PreTrainedModel) -> Iterator[None]:
    """Have a model compute with the weights of another of its shape inside the ``with`` body."""
    pairs = list(zip(base.parameters(), trained.parameters(), strict=True))

    def exchange() -> None:
        for ours, theirs in pairs:
            ours.data, theirs.data = theirs.data, ours.data

    exchange()
    try:
        yield
    finally:
        exchange()
