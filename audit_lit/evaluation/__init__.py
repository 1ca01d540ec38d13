"""What a decoder is worth: suites that measure it beside its controls, on data of LatentQA's layout."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from audit_lit import __version__
from audit_lit.data import Row
from audit_lit.decoder import Decoder
from audit_lit.errors import RecipeError
from audit_lit.evaluation.calibration import calibration
from audit_lit.evaluation.hidden_prompt import hidden_prompt
from audit_lit.evaluation.null import null
from audit_lit.target import Target

SCHEMA, MIN_ROWS = 1, 4
SUITES: dict[str, Callable[..., dict[str, Any]]] = {
    "hidden-prompt": hidden_prompt,
    "null": null,
    "calibration": calibration,
}


def usable(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with a hidden system prompt and a user line."""
    return [row for row in rows if row.system and len(row.messages) == 2]


def evaluate(
    suite: str, decoder: Decoder, target: Target, rows: Sequence[Row], *, limit: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """Measure a decoder and return one JSON-ready document.

    Args:
        suite: A name from ``SUITES``.
        decoder: What is measured.
        target: What it reads.
        rows: Of ``load_rows``; every suite takes those that it can use.
        limit: Use this many labels, drawn with the seed; None uses all.
        seed: Of every draw; same seed, same document.

    Raises:
        RecipeError: If the suite is unknown, or the rows have too few hidden system prompts.
    """
    if suite not in SUITES:
        raise RecipeError(f"unknown suite {suite!r}; expected one of {', '.join(SUITES)}.")
    rows = usable(rows)
    if len(rows) < MIN_ROWS:
        raise RecipeError(
            f"the data has {len(rows)} hidden system prompts with a user line; expected {MIN_ROWS} or more."
        )
    if limit is not None and limit < len(rows):
        rows = random.Random(seed).sample(rows, max(limit, MIN_ROWS))
    return {
        "schema": SCHEMA,
        "suite": suite,
        **SUITES[suite](decoder, target, rows, seed=seed),
        "manifest": {
            "audit_lit": __version__,
            "decoder": decoder.protocol.name,
            "decoder_training_data": decoder.protocol.training_data,
            "target": target.name,
            "target_fingerprint": target.fingerprint(),
            "seed": seed,
            "limit": limit,
        },
    }
