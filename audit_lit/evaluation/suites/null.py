"""Suite ``null``: how often does an answer about nothing look believable?

Every kind of ``controls.nothing``: random activations, permuted ones, and the mean over all dialogs. An answer is
confident if ``Answer.supported`` says so and it does not itself say that there is nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from audit_lit.answers.answer import Answer
from audit_lit.answers.ask import ask
from audit_lit.answers.controls import NULL_KINDS, null_input
from audit_lit.answers.session import Session
from audit_lit.chat.vocabulary import LABEL_QUESTION, SAYS_NOTHING
from audit_lit.data.rows import Row
from audit_lit.decoder.decoder import Decoder
from audit_lit.evaluation.dialogs import hidden_dialogs
from audit_lit.models.activations import Activations
from audit_lit.models.generation import Sampling
from audit_lit.models.target import Target
from audit_lit.statistics.intervals import bootstrap_interval
from audit_lit.statistics.text_overlap import token_f1

OWN_SEED = 1000
"""Added to the seed, so that no draw is one of the control's own."""


def null(decoder: Decoder, target: Target, rows: Sequence[Row], *, seed: int = 0) -> dict[str, Any]:
    """Ask about nothing in every kind, and about the true activations for comparison.

    ``threshold_of_first_half`` is the lift that 5% of the answers exceed in the first half of the dialogs, for the kind
    of nothing that deceives most, where saying so counts as no lift: what a new decoder's ``lift_threshold`` should be.
    All shares are counted over the second half; ``lifts`` holds those of all answers about nothing.
    """
    session = Session.of(target, decoder)
    readings = [session.read(dialog) for dialog in hidden_dialogs(rows, repaired=True, seed=seed)]
    true = Activations.cat([reading.activations for reading in readings])
    given = {kind: null_input(kind, true, decoder.write, seed=seed + OWN_SEED) for kind in NULL_KINDS} | {"true": true}
    answers: dict[str, list[Answer]] = {kind: [] for kind in given}
    for index, reading in enumerate(tqdm(readings, desc="null", leave=False)):
        variants = [replace(reading, activations=rows.rows([index])) for rows in given.values()]
        found = ask(session, variants, [LABEL_QUESTION], Sampling(24, seed=seed))
        for kind, (answer,) in zip(given, found, strict=True):
            answers[kind].append(answer)
    return _summary(answers, [row.label_words for row in rows], decoder.config.lift_threshold)


def _summary(answers: dict[str, list[Answer]], truths: Sequence[str], shipped: float | None) -> dict[str, Any]:
    half = len(answers["true"]) // 2
    lifts = {
        kind: [0.0 if one.text == SAYS_NOTHING else one.lift for one in answers[kind][:half]] for kind in NULL_KINDS
    }
    threshold = max(0.0, *(float(np.quantile(found, 0.95)) for found in lifts.values()))
    used = threshold if shipped is None else shipped
    confident = {kind: np.array([_confident(one, used) for one in found[half:]]) for kind, found in answers.items()}
    pooled = np.concatenate([confident[kind] for kind in NULL_KINDS])
    return {
        "confident_share": float(pooled.mean()),
        "interval": bootstrap_interval(pooled),
        "by_kind": {kind: float(confident[kind].mean()) for kind in NULL_KINDS},
        "says_nothing": {
            kind: float(np.mean([a.text == SAYS_NOTHING for a in found])) for kind, found in answers.items()
        },
        "true_confident_share": float(confident["true"].mean()),
        "true_f1": _overlap(answers["true"], truths, used),
        "threshold": used,
        "threshold_of_first_half": threshold,
        "n": len(pooled),
        "lifts": {kind: sorted(round(one.lift, 3) for one in answers[kind]) for kind in NULL_KINDS},
        "answers": [[true, a.text, round(a.lift, 3)] for true, a in zip(truths, answers["true"], strict=True)],
    }


def _overlap(answers: Sequence[Answer], truths: Sequence[str], threshold: float) -> dict[str, float | None]:
    """Return the word overlap of answers with the truth, for confident ones and others: does confidence mean right?"""
    values: dict[str, list[float]] = {"confident": [], "other": []}
    for answer, truth in zip(answers, truths, strict=True):
        kind = "confident" if _confident(answer, threshold) else "other"
        values[kind].append(token_f1(answer.text, truth))
    return {kind: float(np.mean(found)) if found else None for kind, found in values.items()}


def _confident(answer: Answer, threshold: float) -> bool:
    return replace(answer, threshold=threshold).supported and answer.text != SAYS_NOTHING
