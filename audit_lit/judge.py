"""Judging answers: each is scored again under every control, a few calls for all questions about one dialog."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from audit_lit.activations import Activations
from audit_lit.controls import null_activations
from audit_lit.decoder import Decoder
from audit_lit.text_only import text_readers

READ = "activations"
Nats = npt.NDArray[np.float64]


@torch.no_grad()
def judge(
    decoder: Decoder,
    own: Activations,
    decoys: Activations,
    visible_text: str,
    questions: Sequence[str],
    answers: Sequence[str],
    *,
    seed: int = 0,
) -> list[dict[str, Nats]]:
    """Return for each answer its log-probabilities in nats per token: under ``activations``, and under each control.

    Of several draws of a control, the one that favours the answer most: a mean would pass an answer that is right about
    nothing but what half of them share.

    Args:
        decoder: What scores.
        own: One row, the dialog's activations.
        decoys: Those of the same visible turns after other hidden prompts.
        visible_text: What a reader of text sees.
        questions: What was asked.
        answers: One per question.
        seed: Of the control ``null``.
    """
    null = null_activations(own, decoder.write, seed=seed)
    rows, n = Activations.cat([own, null, decoys]), len(questions)
    same = own.rows([0] * n)
    found = [_injected(decoder, rows, len(null), *pair) for pair in zip(questions, answers, strict=True)]
    alone = {"no_activation": decoder.logprob(same, questions, answers, injected=False)}
    for name, reader in text_readers(decoder).items():
        alone[name] = reader.logprob([visible_text] * n, questions, answers)
    for name, scores in alone.items():
        for at, score in enumerate(scores):
            found[at][name] = _values(score)
    return found


def _injected(decoder: Decoder, rows: Activations, n_null: int, question: str, answer: str) -> dict[str, Nats]:
    """Score one answer under the own row, the null ones and the decoys at once."""
    scores = decoder.logprob(rows, [question] * len(rows), [answer] * len(rows))
    parts = {READ: scores[:1], "null": scores[1 : 1 + n_null], "shuffled": scores[1 + n_null :]}
    return {name: _values(max(some, key=lambda score: float(score.mean()))) for name, some in parts.items()}


def _values(score: torch.Tensor) -> Nats:
    values: Nats = score.double().cpu().numpy()
    return values
