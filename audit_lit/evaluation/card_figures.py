"""The figures of a decoder's card: the gap, and every evaluation suite, on a split that it was not trained on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from audit_lit.chat.vocabulary import LABEL_QUESTION, PROMPT_QUESTION
from audit_lit.data.rows import MIN_ROWS, Example, Row
from audit_lit.decoder.decoder import Decoder
from audit_lit.evaluation.evaluate import SUITES, evaluate
from audit_lit.evaluation.gap import dev_examples, measure_gap
from audit_lit.files import write_whole
from audit_lit.models.target import Target

N_LABELS = 32
"""Number of hidden prompts that a suite is measured on. Even so, all suites take two hours on two CPU cores."""


def measure(
    decoder: Decoder, target: Target, rows: Sequence[Row], train_rows: Sequence[Row], folder: Path, *, seed: int = 0
) -> dict[str, Any]:
    """Return the gap on both kinds of answers, and the document of every suite that the rows can serve.

    Figures that an interrupted run left in ``folder`` are not measured again.
    """
    decoder = decoder.for_layer()
    tasks: dict[str, Callable[[], dict[str, Any]]] = {}
    for kind, question in (("instruction", PROMPT_QUESTION), ("label", LABEL_QUESTION)):
        examples = dev_examples(rows, question, as_label=kind == "label", seed=seed)
        tasks[f"gap_{kind}"] = partial(_gap, decoder, target, examples)
    for name in _served(rows):
        limit = N_LABELS if SUITES[name].kind is None else None
        tasks[name] = partial(evaluate, name, decoder, target, rows, train_rows=train_rows, limit=limit, seed=seed)
    return {name: _measured_once(folder / f"{name}.json", task) for name, task in tasks.items()}


def _served(rows: Sequence[Row]) -> list[str]:
    """Return the names of the suites that the rows suffice for."""
    counts = Counter(row.family[0] for row in rows)
    return [name for name, suite in SUITES.items() if suite.kind is None or counts[suite.kind] >= MIN_ROWS]


def _gap(decoder: Decoder, target: Target, examples: Sequence[Example]) -> dict[str, Any]:
    return measure_gap(decoder, target, examples).to_dict()


def _measured_once(path: Path, task: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(task(), indent=1, ensure_ascii=False) + "\n")
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document
