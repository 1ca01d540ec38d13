"""Suite ``relations``: what does the last token of a subject know about it?

The target reads a line that ends in the subject; the decoder gets that one token's activation and completes the
relation's template. A hit is an answer that holds the object (as the LatentQA paper scores it, arXiv 2412.08686).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from audit_lit.data.rows import Row
from audit_lit.decoder.decoder import Decoder
from audit_lit.evaluation.conditions import Conditions, beside
from audit_lit.models.target import Target

PER_RELATION, MAX_NEW_TOKENS = 8, 20


def relations(decoder: Decoder, target: Target, rows: Sequence[Row], *, seed: int = 0) -> dict[str, Any]:
    """Complete up to eight sentences of each relation; figures for all, and by folder."""
    chosen = _drawn(rows, seed)
    dialogs = [row.messages for row in chosen]
    conditions = Conditions.of(decoder, target, dialogs, seed=seed, last_of_text=True)
    questions = [row.qa[0][0] for row in chosen]
    hits = {}
    for name in conditions.names:
        said = conditions.answers(name, questions, max_new_tokens=MAX_NEW_TOKENS)
        truths = [row.qa[0][1].lower() for row in chosen]
        hits[name] = np.array([truth in answer.lower() for truth, answer in zip(truths, said, strict=True)], float)
    groups = np.array([row.family[1] for row in chosen])
    by_group = {
        str(group): {
            **beside({name: values[groups == group] for name, values in hits.items()}, "accuracy"),
            "n": int(np.sum(groups == group)),
        }
        for group in np.unique(groups)
    }
    return {"all": {**beside(hits, "accuracy"), "n": len(chosen)}, **by_group}


def _drawn(rows: Sequence[Row], seed: int) -> list[Row]:
    rng, chosen = random.Random(seed), []
    for label in sorted({row.label for row in rows}):
        pairs = [row for row in rows if row.label == label]
        chosen += rng.sample(pairs, min(PER_RELATION, len(pairs)))
    return chosen
