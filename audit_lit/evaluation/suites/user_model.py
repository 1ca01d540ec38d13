"""Suite ``user-model``: what does the target believe about its user?

A forced choice between the values of each attribute, on dialogs of TalkTuner's layout. The dialog's text is visible
here and says a lot: the decoder has to beat those that read it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from audit_lit.data.rows import Row
from audit_lit.data.users import attribute_of, value_of
from audit_lit.decoder.decoder import Decoder
from audit_lit.evaluation.conditions import Conditions, beside
from audit_lit.evaluation.dialogs import read_dialogs
from audit_lit.evaluation.probe import Probe
from audit_lit.models.target import Target
from audit_lit.statistics.ranking import Values

QUESTION = "What is the user's {attribute}? Answer in a few words."
PER_ATTRIBUTE, FOR_PROBE = 30, 120


def user_model(
    decoder: Decoder, target: Target, rows: Sequence[Row], *, seed: int = 0, train_rows: Sequence[Row] = ()
) -> dict[str, Any]:
    """Choose the value of each attribute, for up to 30 dialogs each; the probe learns from the training rows."""
    results, pooled = {}, []
    for attribute in sorted({attribute_of(row) for row in rows}):
        chosen = drawn(rows, attribute, PER_ATTRIBUTE, seed)
        conditions = Conditions.of(decoder, target, [row.messages for row in chosen], seed=seed)
        hits = _hits(conditions, chosen, attribute)
        if known := drawn(train_rows, attribute, FOR_PROBE, seed):
            hits["probe"] = _probed(conditions, target, known, chosen)
        majority = max(np.mean([value_of(row) == value for row in chosen]) for value in map(value_of, chosen))
        results[attribute] = {**beside(hits, "accuracy"), "majority": float(majority), "n": len(chosen)}
        pooled.append(hits)
    everything = {name: np.concatenate([hits[name] for hits in pooled]) for name in pooled[0]}
    return {"all": {**beside(everything, "accuracy"), "n": len(everything["activations"])}, **results}


def drawn(rows: Sequence[Row], attribute: str, n: int, seed: int) -> list[Row]:
    """Return up to ``n`` rows about one attribute."""
    about = [row for row in rows if attribute_of(row) == attribute]
    return random.Random(seed).sample(about, min(n, len(about)))


def _hits(conditions: Conditions, rows: Sequence[Row], attribute: str) -> dict[str, Values]:
    values = sorted({value_of(row) for row in rows})
    truth = np.array([values.index(value_of(row)) for row in rows])
    question, options = QUESTION.format(attribute=attribute), [f"{value.capitalize()}." for value in values]
    chosen = {name: conditions.evidence(name, question, options).argmax(1) for name in conditions.names}
    return {name: (option == truth).astype(float) for name, option in chosen.items()}


def _probed(conditions: Conditions, target: Target, known: Sequence[Row], rows: Sequence[Row]) -> Values:
    read = read_dialogs(target, conditions.decoder.config, [row.messages for row in known])
    found = Probe(read, [value_of(row) for row in known]).predict(conditions.activations)
    return np.array([said == value_of(row) for said, row in zip(found, rows, strict=True)], dtype=float)
