"""What a decoder is worth: suites that measure it beside its controls."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from audit_lit.data.relations import KIND as RELATION
from audit_lit.data.rows import MIN_ROWS, Row, measurable
from audit_lit.data.users import KIND as USER
from audit_lit.decoder.decoder import Decoder
from audit_lit.errors import DataError, SettingsError
from audit_lit.evaluation.suites.calibration import calibration
from audit_lit.evaluation.suites.hidden_prompt import hidden_prompt
from audit_lit.evaluation.suites.inversion import inversion
from audit_lit.evaluation.suites.null import null
from audit_lit.evaluation.suites.relations import relations
from audit_lit.evaluation.suites.user_model import user_model
from audit_lit.models.target import Target

SCHEMA = 2
"""Version of the document, and of the meaning of its figures."""


@dataclass(frozen=True)
class Suite:
    """A way to measure.

    Attributes:
        run: The function that measures.
        kind: First word of the labels of the rows that it can use; None if it uses hidden prompts.
        probes: Whether it fits the control ``probe`` to training rows.
    """

    run: Callable[..., dict[str, Any]]
    kind: str | None = None
    probes: bool = False

    def usable(self, rows: Sequence[Row]) -> list[Row]:
        """Return the rows that can be measured.

        Raises:
            DataError: If there are too few.
        """
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
    """Measure a decoder and return one JSON-ready document.

    Args:
        suite: A name from ``SUITES``.
        decoder: The decoder to measure.
        target: The model that it reads.
        rows: Rows of ``load_split``; every suite takes those that it can use.
        train_rows: Rows of another split, for the control ``probe``; without them there is none.
        limit: Number of rows to use, drawn with the seed; None uses all.
        layer: The layer to read, for a decoder that reads one of several; None takes its first.
        seed: Of every draw; same seed, same document.

    Raises:
        SettingsError: If the suite is unknown.
        DataError: If too few rows are of its kind.
        DecoderMismatch: If the decoder was not trained on that layer.
    """
    if suite not in SUITES:
        raise SettingsError(f"unknown suite {suite!r}; expected one of {', '.join(SUITES)}.")
    rows, decoder = SUITES[suite].usable(rows), decoder.for_layer(layer)
    if limit is not None and limit < len(rows):
        rows = random.Random(seed).sample(rows, max(limit, MIN_ROWS))
    for_probe = {"train_rows": train_rows} if SUITES[suite].probes else {}
    figures = SUITES[suite].run(decoder, target, rows, seed=seed, **for_probe)
    manifest = _manifest(decoder, target, seed, limit)
    return {"schema": SCHEMA, "suite": suite, **figures, "manifest": manifest}


def _manifest(decoder: Decoder, target: Target, seed: int, limit: int | None) -> dict[str, Any]:
    return {
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
