"""What system prompts change, in the place of what training on them would: stand-ins for organisms, by the hundred.

Context distillation trains a model to act as under a prompt, and what it changes points the same way as the prompt
does. A stand-in costs a few forward passes; an organism costs a training. The bare texts have no prompt before them, so
that the difference there is 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from audit_lit.data.rows import Row
from audit_lit.hooks import resolve_layers
from audit_lit.models.difference import Difference
from audit_lit.models.probe_texts import N_SLOTS, ProbeTexts
from audit_lit.models.target import Target
from audit_lit.organisms.library import Known
from audit_lit.organisms.spec import PROMPT

BENIGN = "benign"
"""First word of the labels of ordinary deployments."""
N_LINES = 4
"""Number of lines: the mean over so few has a cosine of .98 to that over 24."""


def prompted(
    rows: Sequence[Row], base: Target, lines: Sequence[str], layers: Sequence[int]
) -> Iterator[tuple[Known, Difference]]:
    """Yield each system prompt of a data set once, and what it changes in the base on the same lines and replies.

    Ordinary deployments are left out: trained in, they would be neither something to report nor nothing.
    """
    texts, layers = ProbeTexts.of(base, lines), resolve_layers(layers, base.n_layers)
    plain = texts.residuals(base, layers)
    for row in distinct(rows):
        under = texts.under(str(row.system), lines, base).residuals(base, layers)
        moved = torch.cat([under, plain[:, :, under.shape[2] : N_SLOTS]], dim=2)
        yield _known(row), Difference.between(moved, plain, layers)


def distinct(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that can be measured: one of each label that has a system prompt to report."""
    return list({row.label: row for row in rows if row.system and row.family[0] != BENIGN}.values())


def _known(row: Row) -> Known:
    settings: dict[str, Any] = {"method": PROMPT, "rank": 0, "mixed": False, "split": "train"}
    return Known(id=row.label, label=row.label_words, prompt=row.system, qa=row.qa, **settings)
