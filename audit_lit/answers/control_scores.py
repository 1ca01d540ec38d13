"""Score answers under every control, for all questions and dialogs at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from audit_lit.answers.controls import null_activations
from audit_lit.answers.session import Reading
from audit_lit.decoder.decoder import Candidate, Decoder, text_baselines
from audit_lit.models.activations import Activations

ACTIVATIONS = "activations"
"""The condition that is no control: the dialog's own activations."""
Nats = npt.NDArray[np.float64]
Scores = list[list[dict[str, Nats]]]
"""For each reading and question, the nats of each answer token by condition."""


def score_under_controls(
    decoder: Decoder,
    readings: Sequence[Reading],
    questions: Sequence[str],
    answers: Sequence[Sequence[str]],
    *,
    seed: int = 0,
) -> Scores:
    """Return for each answer its log-probabilities in nats per token: under ``activations``, and under each control.

    Of several draws of a control, the one that favours the answer most counts: a mean would pass an answer that is
    right about nothing but what half of them share.

    Args:
        decoder: The model that scores.
        readings: What was asked about.
        questions: What was asked about each.
        answers: For each reading, one per question.
        seed: Of the control ``null``.
    """
    scores: Scores = [[{} for _ in questions] for _ in readings]
    pairs = [(reading, question) for reading in range(len(readings)) for question in range(len(questions))]
    asked = [questions[question] for _, question in pairs]
    given = [answers[reading][question] for reading, question in pairs]
    rows, conditions = _conditions(decoder, readings, seed)
    places = [
        (pair, name, Candidate(row, question, answer, injected=name != "no_activation"))
        for pair, question, answer in zip(pairs, asked, given, strict=True)
        for name, rows_of_condition in conditions[pair[0]].items()
        for row in rows_of_condition
    ]
    nats = decoder.score_candidates(rows, [candidate for *_, candidate in places])
    for ((reading, question), name, _), score in zip(places, nats, strict=True):
        _keep_best(scores[reading][question], name, score)
    texts = [readings[reading].rendered.visible_text for reading, _ in pairs]
    for name, baseline in text_baselines(decoder).items():
        for (reading, question), score in zip(pairs, baseline.logprob(texts, asked, given), strict=True):
            _keep_best(scores[reading][question], name, score)
    return scores


def _conditions(decoder: Decoder, readings: Sequence[Reading], seed: int) -> tuple[Activations, list[dict[str, range]]]:
    """Return all activations that answers are scored under, and for each reading the rows of each condition."""
    parts: list[Activations] = []
    nulls: dict[object, range] = {}

    def add(part: Activations) -> range:
        parts.append(part)
        end = sum(map(len, parts))
        return range(end - len(part), end)

    conditions = []
    for reading in readings:
        rows = add(reading.activations)
        null = nulls.get(key := _null_key(decoder, reading.activations, rows))
        null = nulls[key] = null or add(null_activations(reading.activations, decoder.write, seed=seed))
        conditions.append({ACTIVATIONS: rows, "no_activation": rows, "null": null, "shuffled": add(reading.decoys)})
    return Activations.cat(parts), conditions


def _null_key(decoder: Decoder, activations: Activations, rows: range) -> object:
    """Return a key that is equal for dialogs whose control ``null`` is the same.

    Where the write operation makes nothing of a vector's size, it is the same noise for every dialog of as many tokens.
    """
    if not decoder.write.rescales:
        return rows
    return int(activations.mask.sum()), int(activations.n_hidden) * decoder.config.shift_positions


def _keep_best(scores: dict[str, Nats], name: str, score: torch.Tensor) -> None:
    values: Nats = score.double().cpu().numpy()
    if name not in scores or values.mean() > scores[name].mean():
        scores[name] = values
