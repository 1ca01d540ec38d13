"""Suite ``inversion``: where state and text disagree, which of the two does the decoder report?

Each dialog runs under one hidden prompt and shows the user line that was written for another. A decoder that reads the
state names the first; one that reads the text, at best, the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from audit_lit.chat.vocabulary import LABEL_QUESTION
from audit_lit.data.rows import Row
from audit_lit.decoder.decoder import Decoder
from audit_lit.evaluation.conditions import Conditions, beside
from audit_lit.evaluation.dialogs import derangement, hidden_dialogs
from audit_lit.models.target import Target
from audit_lit.statistics.intervals import Values


def inversion(decoder: Decoder, target: Target, rows: Sequence[Row], *, seed: int = 0) -> dict[str, Any]:
    """Compare the likelihoods of the hidden prompt's label and of the line's, each less its marginal over dialogs."""
    conditions = Conditions.of(decoder, target, hidden_dialogs(rows, repaired=True, seed=seed), seed=seed)
    labels, line_owners = [row.label_words for row in rows], derangement(len(rows), seed)
    names_state = {name: _names_state(conditions, name, labels, line_owners) for name in conditions.names}
    return {"names_state": beside(names_state), "n": len(rows)}


def _names_state(conditions: Conditions, name: str, labels: Sequence[str], line_owners: Sequence[int]) -> Values:
    """Return 1 for each dialog whose hidden prompt is named, 0 where the line's is, and a half for a tie."""
    evidence = conditions.evidence(name, LABEL_QUESTION, labels)
    rows = np.arange(len(labels))
    difference = evidence[rows, rows] - evidence[rows, line_owners]
    return np.asarray((np.sign(np.round(difference, 6)) + 1) / 2)
