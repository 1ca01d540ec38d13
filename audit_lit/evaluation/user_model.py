"""Suite ``user-model``: what does the target believe about its user?

A forced choice between the values of each attribute, on dialogs of TalkTuner's layout. The dialog's text is visible
here and says a lot: the decoder has to beat those that read it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from audit_lit.data import Row
from audit_lit.decoder import Decoder
from audit_lit.evaluation.conditions import Conditions, beside
from audit_lit.evaluation.dialogs import read_dialogs
from audit_lit.evaluation.probe import Probe
from audit_lit.evaluation.statistics import Values
from audit_lit.target import Target
from audit_lit.users import attribute_of, value_of

QUESTION = "What is the user's {attribute}? Answer in a few words."
PER_ATTRIBUTE, FOR_PROBE = 50, 200


def user_model(
    decoder: Decoder, target: Target, rows: Sequence[Row], *, seed: int = 0, train_rows: Sequence[Row] = ()
) -> dict[str, Any]:
    """Choose the value of each attribute, for up to 50 dialogs each; the probe learns from the training rows."""
    results, pooled = {}, []
    for attribute in sorted({attribute_of(row) for row in rows}):
        chosen = drawn(rows, attribute, PER_ATTRIBUTE, seed)
        hits = _hits(decoder, target, chosen, attribute, seed)
        if known := drawn(train_rows, attribute, FOR_PROBE, seed):
            hits["probe"] = _probed(decoder, target, known, chosen)
        majority = max(np.mean([value_of(row) == value for row in chosen]) for value in map(value_of, chosen))
        results[attribute] = {**beside(hits, "accuracy"), "majority": float(majority), "n": len(chosen)}
        pooled.append(hits)
    everything = {name: np.concatenate([hits[name] for hits in pooled]) for name in pooled[0]}
    return {"all": {**beside(everything, "accuracy"), "n": len(everything["activations"])}, **results}


def drawn(rows: Sequence[Row], attribute: str, n: int, seed: int) -> list[Row]:
    """Return up to ``n`` rows about one attribute."""
    about = [row for row in rows if attribute_of(row) == attribute]
    return random.Random(seed).sample(about, min(n, len(about)))


def _hits(decoder: Decoder, target: Target, rows: Sequence[Row], attribute: str, seed: int) -> dict[str, Values]:
    conditions = Conditions.of(decoder, target, [row.messages for row in rows], seed=seed)
    values = sorted({value_of(row) for row in rows})
    truth = np.array([values.index(value_of(row)) for row in rows])
    question, options = QUESTION.format(attribute=attribute), [f"{value.capitalize()}." for value in values]
    hits = {}
    for name in conditions.names:
        raw = [
            [float(one.sum()) for one in conditions.scores(name, row, question, options)] for row in range(len(rows))
        ]
        # Less each option's mean over the dialogs: what is said of everyone is no belief about this user.
        scores = np.array(raw) - np.mean(raw, axis=0)
        hits[name] = (scores.argmax(1) == truth).astype(float)
    return hits


def _probed(decoder: Decoder, target: Target, known: Sequence[Row], rows: Sequence[Row]) -> Values:
    read = [read_dialogs(target, decoder.protocol, [row.messages for row in some]) for some in (known, rows)]
    found = Probe(read[0], [value_of(row) for row in known]).predict(read[1])
    return np.array([said == value_of(row) for said, row in zip(found, rows, strict=True)], dtype=float)
