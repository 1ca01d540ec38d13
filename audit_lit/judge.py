"""Judging answers: each is scored again under every control, all questions and dialogs at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from audit_lit.activations import Activations
from audit_lit.controls import null_activations
from audit_lit.decoder import Asked, Decoder
from audit_lit.reading import Reading
from audit_lit.text_only import text_readers

READ = "activations"
Nats = npt.NDArray[np.float64]
Scores = list[list[dict[str, Nats]]]


def judge(
    decoder: Decoder,
    readings: Sequence[Reading],
    questions: Sequence[str],
    answers: Sequence[Sequence[str]],
    *,
    seed: int = 0,
) -> Scores:
    """Return for each answer its log-probabilities in nats per token: under ``activations``, and under each control.

    Of several draws of a control, the one that favours the answer most: a mean would pass an answer that is right about
    nothing but what half of them share.

    Args:
        decoder: What scores.
        readings: What was asked about.
        questions: What was asked about each.
        answers: For each reading one per question.
        seed: Of the control ``null``.
    """
    found: Scores = [[{} for _ in questions] for _ in readings]
    places = [(dialog, at) for dialog in range(len(readings)) for at in range(len(questions))]
    asked, given = [questions[at] for _, at in places], [answers[dialog][at] for dialog, at in places]
    rows, conditions = _conditions(decoder, readings, seed)
    flat = [
        (dialog, at, name, Asked(row, question, answer, injected=name != "no_activation"))
        for (dialog, at), question, answer in zip(places, asked, given, strict=True)
        for name, some in conditions[dialog].items()
        for row in some
    ]
    for (dialog, at, name, _), score in zip(flat, decoder.scores(rows, [one for *_, one in flat]), strict=True):
        _keep_best(found[dialog][at], name, score)
    texts = [readings[dialog].rendered.visible_text for dialog, _ in places]
    for name, reader in text_readers(decoder).items():
        for (dialog, at), score in zip(places, reader.logprob(texts, asked, given), strict=True):
            _keep_best(found[dialog][at], name, score)
    return found


def _conditions(decoder: Decoder, readings: Sequence[Reading], seed: int) -> tuple[Activations, list[dict[str, range]]]:
    """Return all activations that answers are scored under, and for each reading the rows of each condition."""
    parts: list[Activations] = []
    nulls: dict[object, range] = {}

    def add(part: Activations) -> range:
        parts.append(part)
        end = sum(map(len, parts))
        return range(end - len(part), end)

    found = []
    for reading in readings:
        own = add(reading.activations)
        null = nulls.get(key := _what_null_depends_on(decoder, reading.activations, own))
        null = nulls[key] = null or add(null_activations(reading.activations, decoder.write, seed=seed))
        found.append({READ: own, "no_activation": own, "null": null, "shuffled": add(reading.decoys)})
    return Activations.cat(parts), found


def _what_null_depends_on(decoder: Decoder, own: Activations, rows: range) -> object:
    """Return what the decoder makes of random activations in the place of a dialog's own depends on.

    Where it makes nothing of a vector's size, they are the same noise for every dialog of as many tokens.
    """
    if not decoder.write.rescales:
        return rows
    return int(own.mask.sum()), int(own.n_hidden) * decoder.protocol.shift_positions


def _keep_best(found: dict[str, Nats], name: str, score: torch.Tensor) -> None:
    values: Nats = score.double().cpu().numpy()
    if name not in found or values.mean() > found[name].mean():
        found[name] = values
