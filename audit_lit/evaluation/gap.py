"""What a decoder truly reads: its loss on held-out dialogs beside the same loss with other activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from audit_lit.data.rows import Example, Row, measurable
from audit_lit.decoder.decoder import Decoder
from audit_lit.evaluation.dialogs import hidden_dialogs, read_dialogs
from audit_lit.models.target import Target
from audit_lit.statistics.intervals import bootstrap_interval


@dataclass(frozen=True)
class Gap:
    """Mean loss of the right answers in nats per token, with a dialog's own activations, another's, and empty slots.

    The gap, with its 95% bootstrap interval over dialogs, is ``shuffled - true``: what is truly read.
    """

    true: float
    shuffled: float
    no_activation: float
    gap: float
    interval: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready document."""
        return asdict(self)


def dev_examples(rows: Sequence[Row], question: str, *, as_label: bool, seed: int = 0) -> list[Example]:
    """Return one re-paired example per system prompt: the visible text gives nothing away."""
    with_prompt = measurable(rows)
    dialogs = hidden_dialogs(with_prompt, repaired=True, seed=seed)
    return [
        Example(dialog, question, row.label_words if as_label else row.instruction, row.label)
        for row, dialog in zip(with_prompt, dialogs, strict=True)
    ]


@torch.no_grad()
def measure_gap(decoder: Decoder, target: Target, examples: Sequence[Example], *, batch_size: int = 16) -> Gap:
    """Score every example under the three kinds of activations."""
    losses: dict[str, list[float]] = {"true": [], "shuffled": [], "no_activation": []}
    for start in range(0, len(examples), batch_size):
        batch = examples[start : start + batch_size]
        questions, answers = [example.question for example in batch], [example.answer for example in batch]
        true = read_dialogs(target, decoder.config, [example.dialog for example in batch])
        conditions = {"true": true, "shuffled": true.rows([*range(1, len(batch)), 0]), "no_activation": true}
        for name, activations in conditions.items():
            scores = decoder.logprob(activations, questions, answers, injected=name != "no_activation")
            losses[name] += [-float(score.mean()) for score in scores]
    means = {name: float(np.mean(values)) for name, values in losses.items()}
    differences = np.subtract(losses["shuffled"], losses["true"])
    return Gap(**means, gap=float(differences.mean()), interval=bootstrap_interval(differences))
