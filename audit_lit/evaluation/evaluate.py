"""What a decoder is worth: suites that measure it beside its controls, one of them or all for its card."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from audit_lit.chat.vocabulary import LABEL_QUESTION, PROMPT_QUESTION
from audit_lit.data.relations import KIND as RELATION
from audit_lit.data.rows import MIN_ROWS, Row, measurable
from audit_lit.data.users import KIND as USER
from audit_lit.decoder.decoder import Decoder
from audit_lit.errors import DataError, SettingsError
from audit_lit.evaluation.gap import dev_examples, measure_gap
from audit_lit.evaluation.suites.calibration import calibration
from audit_lit.evaluation.suites.hidden_prompt import hidden_prompt
from audit_lit.evaluation.suites.inversion import inversion
from audit_lit.evaluation.suites.null import null
from audit_lit.evaluation.suites.relations import relations
from audit_lit.evaluation.suites.user_model import user_model
from audit_lit.files.reading import read_json
from audit_lit.files.writing import dump_json, write_whole
from audit_lit.models.target import Target
from audit_lit.settings import checked_seed

SCHEMA = 2
"""Version of the document, and of the meaning of its figures."""
N_LABELS = 32
"""Number of hidden prompts for the figures of a card. Even so, all suites take two hours on two CPU cores."""


@dataclass(frozen=True)
class Suite:
    """A way to measure."""

    run: Callable[..., dict[str, Any]]
    kind: str | None = None
    """First word of the labels of the rows that it can use; None if it uses hidden prompts."""
    probes: bool = False
    """Whether it fits the control ``probe`` to training rows."""

    def usable(self, rows: Sequence[Row]) -> list[Row]:
        """Return the rows that can be measured; raise if they are too few."""
        if self.kind is None:
            return measurable(rows)
        of_kind = [row for row in rows if row.family[0] == self.kind]
        if len(of_kind) < MIN_ROWS:
            raise DataError(
                f"the data has {len(of_kind)} rows of kind {self.kind!r}; expected {MIN_ROWS} or more. Name a folder "
                "that holds them with --data."
            )
        return of_kind


SUITES = {
    "hidden-prompt": Suite(hidden_prompt, probes=True),
    "null": Suite(null),
    "calibration": Suite(calibration),
    "inversion": Suite(inversion),
    "user-model": Suite(user_model, USER, probes=True),
    "relations": Suite(relations, RELATION),
}


def evaluate(
    suite: str,
    decoder: Decoder,
    target: Target,
    rows: Sequence[Row],
    *,
    train_rows: Sequence[Row] = (),
    limit: int | None = None,
    layer: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure a decoder by one of ``SUITES`` and return a JSON-ready document: same seed, same document.

    A suite takes the rows that it can use: all of them, or as many as ``limit`` says. The training rows are for the
    control ``probe``; without them there is none. A decoder that reads one of several layers reads ``layer``, or its
    first.
    """
    if suite not in SUITES:
        raise SettingsError(f"unknown suite {suite!r}; expected one of {', '.join(SUITES)}.")
    if limit is not None and (type(limit) is not int or limit < MIN_ROWS):
        raise SettingsError(f"got limit={limit!r:.80}; expected a whole number of rows, {MIN_ROWS} or more, or None.")
    seed = checked_seed(seed)
    rows, decoder = SUITES[suite].usable(rows), decoder.for_layer(layer)
    if limit is not None and limit < len(rows):
        rows = random.Random(seed).sample(rows, limit)
    for_probe = {"train_rows": train_rows} if SUITES[suite].probes else {}
    figures = SUITES[suite].run(decoder, target, rows, seed=seed, **for_probe)
    manifest = {
        "audit_lit": version("audit-lit"),
        "decoder": decoder.config.name,
        "decoder_training_data": decoder.config.training_data,
        "rival": decoder.text_baseline.config.name if decoder.text_baseline else None,
        "target": target.name,
        "layers": list(decoder.config.read_layers),
        "target_fingerprint": target.fingerprint(),
        "seed": seed,
        "limit": limit,
    }
    return {"schema": SCHEMA, "suite": suite, **figures, "manifest": manifest}


def measure(
    decoder: Decoder, target: Target, rows: Sequence[Row], train_rows: Sequence[Row], folder: Path, *, seed: int = 0
) -> dict[str, Any]:
    """Return the figures of a card: the gap on both kinds of answers, and every suite that the rows suffice for.

    Figures that an interrupted run left in ``folder`` are not measured again.
    """
    decoder, counts = decoder.for_layer(), Counter(row.family[0] for row in rows)
    tasks: dict[str, Callable[[], dict[str, Any]]] = {}
    for kind, question in (("instruction", PROMPT_QUESTION), ("label", LABEL_QUESTION)):
        examples = dev_examples(rows, question, as_label=kind == "label", seed=seed)
        tasks[f"gap_{kind}"] = partial(lambda chosen: measure_gap(decoder, target, chosen).to_dict(), examples)
    for name, suite in SUITES.items():
        if suite.kind is None or counts[suite.kind] >= MIN_ROWS:
            limit = N_LABELS if suite.kind is None else None
            tasks[name] = partial(evaluate, name, decoder, target, rows, train_rows=train_rows, limit=limit, seed=seed)
    return {name: _measured_once(folder / f"{name}.json", task) for name, task in tasks.items()}


def _measured_once(path: Path, task: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, dump_json(task(), indent=1) + "\n")
    document: dict[str, Any] = read_json(path, DataError)
    return document
