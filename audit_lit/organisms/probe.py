"""A linear probe on differences: does one look like those of organisms with something planted, or of clean ones?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from audit_lit.models.difference import Difference
from audit_lit.organisms.library import Library
from audit_lit.statistics.intervals import Values

RIDGE = 1.0
"""Penalty in units of the mean squared length of a centred row."""
N_FOLDS = 10


def features(differences: Sequence[Difference]) -> Values:
    """Return differences at unit length, so that a probe cannot tell them by their size."""
    flat = torch.stack([difference.mean.flatten() for difference in differences])
    return np.asarray(torch.nn.functional.normalize(flat, dim=-1).double())


def probe_scores(rows: Values, is_planted: Values, queries: Values) -> Values:
    """Return the scores of ridge regression onto being planted, in its dual form: there are more features than rows."""
    centre, target = rows.mean(0), is_planted - is_planted.mean()
    kernel = (rows - centre) @ (rows - centre).T
    dual = np.linalg.solve(kernel + RIDGE * np.trace(kernel) / len(kernel) * np.eye(len(kernel)), target)
    return np.asarray((queries - centre) @ (rows - centre).T @ dual)


def probe_p_value(library: Library, difference: Difference, slots: int) -> float:
    """Return the share of clean organisms that look as planted as a difference does, itself counted.

    Each clean organism is scored by a probe that was not fitted to it (one of ``N_FOLDS``), and the difference by all
    of these probes, from which the least score is taken.
    """
    rows = features([other.at(difference.layers, slots) for other in library.differences])
    labels = np.array([float(known.planted) for known in library.known])
    query, folds = features([difference]), np.arange(len(rows)) % N_FOLDS
    clean, scores = np.full(len(rows), -np.inf), []
    for fold in range(N_FOLDS):
        kept, left = folds != fold, folds == fold
        scored = probe_scores(rows[kept], labels[kept], np.concatenate([rows[left], query]))
        clean[left] = scored[:-1]
        scores.append(scored[-1])
    reference = clean[labels == 0]
    return (1 + int(np.sum(reference >= min(scores)))) / (1 + len(reference))
