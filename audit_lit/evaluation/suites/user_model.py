"""Suite ``user-model``: what does the target believe about its user?

A forced choice between the values of each attribute, on dialogs of TalkTuner's layout. The dialog's text is visible
here and says a lot: the decoder has to beat the baselines that read it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from audit_lit.answers.controls import ACTIVATIONS
from audit_lit.data.rows import Row
from audit_lit.data.users import attribute_of, value_of
from audit_lit.decoder.decoder import Decoder
from audit_lit.evaluation.conditions import Conditions, beside
from audit_lit.evaluation.dialogs import read_dialogs
from audit_lit.evaluation.probe import Probe
from audit_lit.models.target import Target
from audit_lit.statistics.intervals import Values

QUESTION = "What is the user's {attribute}? Answer in a few words."
N_PER_ATTRIBUTE = 30
N_FOR_PROBE = 120


def user_model(
    decoder: Decoder, target: Target, rows: Sequence[Row], *, seed: int = 0, train_rows: Sequence[Row] = ()
) -> dict[str, Any]:
    """Choose the value of each attribute, for up to 30 dialogs each; the probe learns from the training rows."""
    results, pooled = {}, []
    for attribute in sorted({attribute_of(row) for row in rows}):
        chosen = draw(rows, attribute, N_PER_ATTRIBUTE, seed)
        conditions = Conditions.of(decoder, target, [row.messages for row in chosen], seed=seed)
        hits = _hits(conditions, chosen, attribute)
        if for_probe := draw(train_rows, attribute, N_FOR_PROBE, seed):
            hits["probe"] = _probe_hits(conditions, target, for_probe, chosen)
        ((_, n_majority),) = Counter(map(value_of, chosen)).most_common(1)
        results[attribute] = {**beside(hits, "accuracy"), "majority": n_majority / len(chosen), "n": len(chosen)}
        pooled.append(hits)
    everything = {name: np.concatenate([hits[name] for hits in pooled]) for name in pooled[0]}
    return {"all": {**beside(everything, "accuracy"), "n": len(everything[ACTIVATIONS])}, **results}


def draw(rows: Sequence[Row], attribute: str, n: int, seed: int) -> list[Row]:
    """Return up to ``n`` rows about one attribute."""
    about = [row for row in rows if attribute_of(row) == attribute]
    return random.Random(seed).sample(about, min(n, len(about)))


def _hits(conditions: Conditions, rows: Sequence[Row], attribute: str) -> dict[str, Values]:
    values = sorted({value_of(row) for row in rows})
    truths = np.array([values.index(value_of(row)) for row in rows])
    question, options = QUESTION.format(attribute=attribute), [f"{value.capitalize()}." for value in values]
    chosen = {name: conditions.evidence(name, question, options).argmax(1) for name in conditions.names}
    return {name: (indices == truths).astype(float) for name, indices in chosen.items()}


def _probe_hits(conditions: Conditions, target: Target, for_probe: Sequence[Row], rows: Sequence[Row]) -> Values:
    activations = read_dialogs(target, conditions.decoder.config, [row.messages for row in for_probe])
    predicted = Probe(activations, [value_of(row) for row in for_probe]).predict(conditions.activations)
    return np.array([value == value_of(row) for value, row in zip(predicted, rows, strict=True)], dtype=float)
