"""The figures of a decoder's card: the gap, and every evaluation suite, on a split that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from audit_lit.data import Row
from audit_lit.decoder import Decoder
from audit_lit.evaluation import SUITES, evaluate
from audit_lit.evaluation.gap import dev_examples, measure_gap
from audit_lit.questions import LABEL_QUESTION, PROMPT_QUESTION
from audit_lit.target import Target


def measure(
    decoder: Decoder, target: Target, rows: Sequence[Row], train_rows: Sequence[Row], *, seed: int = 0
) -> dict[str, Any]:
    """Return the gap on both kinds of answers and the document of every suite that the rows can serve."""
    results: dict[str, Any] = {}
    decoder = decoder.at()
    for kind, question in (("instruction", PROMPT_QUESTION), ("label", LABEL_QUESTION)):
        examples = dev_examples(rows, question, as_label=kind == "label", seed=seed)
        results[f"gap_{kind}"] = measure_gap(decoder, target, examples).to_dict()
    kinds = {None, *(row.family[0] for row in rows)}
    served = [name for name, suite in SUITES.items() if suite.kind in kinds]
    return results | {name: evaluate(name, decoder, target, rows, train_rows=train_rows, seed=seed) for name in served}
