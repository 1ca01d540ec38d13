"""Suite ``null``: how often does an answer about activations that say nothing look believable?

It asks about every kind of ``controls.null_input``: random activations, permuted ones, and the mean over all dialogs.
An answer is confident if ``Answer.supported`` says so and it does not itself say that there is nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from audit_lit.answers.answer import Answer
from audit_lit.answers.ask import ask
from audit_lit.answers.controls import NULL_KINDS, null_input
from audit_lit.answers.reading import Reading
from audit_lit.answers.session import Session
from audit_lit.calibration.nothing import MAX_NEW_TOKENS, SEED_OFFSET, nothing_threshold
from audit_lit.chat.vocabulary import LABEL_QUESTION, SAYS_NOTHING
from audit_lit.data.rows import Row
from audit_lit.decoder.decoder import Decoder
from audit_lit.evaluation.dialogs import hidden_dialogs
from audit_lit.models.activations import Activations
from audit_lit.models.generation import Sampling
from audit_lit.models.target import Target
from audit_lit.statistics.intervals import bootstrap_interval
from audit_lit.statistics.text_overlap import token_f1

TRUE = "true"
Answers = dict[str, list[Answer]]
"""Answers about each kind of activations, dialog by dialog."""


def null(decoder: Decoder, target: Target, rows: Sequence[Row], *, seed: int = 0) -> dict[str, Any]:
    """Ask about nothing in every kind, and about the true activations for comparison.

    ``threshold_of_first_half`` is the lift that 5% of the answers exceed in the first half of the dialogs, for the kind
    of nothing that deceives most, where saying so counts as no lift: what a new decoder's ``lift_threshold`` should be.
    All shares are counted over the second half; ``lifts`` holds those of all answers about nothing.
    """
    session = Session.of(target, decoder)
    readings = [session.read(dialog) for dialog in hidden_dialogs(rows, repaired=True, seed=seed)]
    true = Activations.cat([reading.activations for reading in readings])
    inputs = {kind: null_input(kind, true, decoder.write, seed=seed + SEED_OFFSET) for kind in NULL_KINDS}
    answers = _ask(session, readings, {**inputs, TRUE: true}, seed)
    return _summary(answers, [row.label_words for row in rows], decoder.config.lift_threshold)


def _ask(session: Session, readings: Sequence[Reading], inputs: Mapping[str, Activations], seed: int) -> Answers:
    answers: Answers = {kind: [] for kind in inputs}
    for index, reading in enumerate(tqdm(readings, desc="null", leave=False)):
        variants = [replace(reading, activations=activations.rows([index])) for activations in inputs.values()]
        answered = ask(session, variants, [LABEL_QUESTION], Sampling(MAX_NEW_TOKENS, seed=seed))
        for kind, (answer,) in zip(inputs, answered, strict=True):
            answers[kind].append(answer)
    return answers


def _summary(answers: Answers, truths: Sequence[str], shipped: float | None) -> dict[str, Any]:
    half = len(answers[TRUE]) // 2
    measured = _threshold({kind: answers[kind][:half] for kind in NULL_KINDS})
    threshold = measured if shipped is None else shipped
    confident = {
        kind: np.array([_is_confident(answer, threshold) for answer in about[half:]]) for kind, about in answers.items()
    }
    pooled = np.concatenate([confident[kind] for kind in NULL_KINDS])
    return {
        "confident_share": float(pooled.mean()),
        "interval": bootstrap_interval(pooled),
        "by_kind": {kind: float(confident[kind].mean()) for kind in NULL_KINDS},
        "says_nothing": {
            kind: float(np.mean([a.text == SAYS_NOTHING for a in about])) for kind, about in answers.items()
        },
        "true_confident_share": float(confident[TRUE].mean()),
        "true_f1": _overlap(answers[TRUE], truths, threshold),
        "threshold": threshold,
        "threshold_of_first_half": measured,
        "n": len(pooled),
        "lifts": {kind: sorted(round(answer.lift, 3) for answer in answers[kind]) for kind in NULL_KINDS},
        "answers": [[truth, a.text, round(a.lift, 3)] for truth, a in zip(truths, answers[TRUE], strict=True)],
    }


def _threshold(answers: Answers) -> float:
    """Return the lift that 5% of the answers about the most deceptive kind of nothing exceed."""
    lifts = {kind: [0.0 if a.text == SAYS_NOTHING else a.lift for a in about] for kind, about in answers.items()}
    return nothing_threshold(lifts)


def _overlap(answers: Sequence[Answer], truths: Sequence[str], threshold: float) -> dict[str, float | None]:
    """Return the word overlap of answers with the truth, for confident ones and others: does confidence mean right?"""
    values: dict[str, list[float]] = {"confident": [], "other": []}
    for answer, truth in zip(answers, truths, strict=True):
        kind = "confident" if _is_confident(answer, threshold) else "other"
        values[kind].append(token_f1(answer.text, truth))
    return {kind: float(np.mean(overlaps)) if overlaps else None for kind, overlaps in values.items()}


def _is_confident(answer: Answer, threshold: float) -> bool:
    return replace(answer, threshold=threshold).supported and answer.text != SAYS_NOTHING
