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
from audit_lit.statistics.intervals import Values

N_PER_RELATION = 8
MAX_NEW_TOKENS = 20


def relations(decoder: Decoder, target: Target, rows: Sequence[Row], *, seed: int = 0) -> dict[str, Any]:
    """Complete up to eight sentences of each relation; figures for all, and by folder."""
    chosen = _draw(rows, seed)
    conditions = Conditions.of(decoder, target, [row.messages for row in chosen], seed=seed, last_of_text=True)
    hits = {name: _hits(conditions, name, chosen) for name in conditions.names}
    folders = np.array([row.family[1] for row in chosen])
    by_folder = {
        str(folder): {
            **beside({name: values[folders == folder] for name, values in hits.items()}, "accuracy"),
            "n": int(np.sum(folders == folder)),
        }
        for folder in np.unique(folders)
    }
    return {"all": {**beside(hits, "accuracy"), "n": len(chosen)}, **by_folder}


def _hits(conditions: Conditions, name: str, rows: Sequence[Row]) -> Values:
    questions, objects = zip(*(row.qa[0] for row in rows), strict=True)
    answers = conditions.answers(name, questions, max_new_tokens=MAX_NEW_TOKENS)
    return np.array([text.lower() in answer.lower() for text, answer in zip(objects, answers, strict=True)], float)


def _draw(rows: Sequence[Row], seed: int) -> list[Row]:
    rng, chosen = random.Random(seed), []
    for label in sorted({row.label for row in rows}):
        of_relation = [row for row in rows if row.label == label]
        chosen += rng.sample(of_relation, min(N_PER_RELATION, len(of_relation)))
    return chosen
