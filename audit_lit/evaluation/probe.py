"""The control ``probe``: a ridge classifier on the same activations, where there are labels to fit it to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from audit_lit.models.activations import Activations
from audit_lit.statistics.intervals import Values

RIDGE = 1.0
"""Penalty in units of the mean squared length of a standardised row."""


class Probe:
    """Ridge regression onto one indicator per class, in its dual form: there are more features than examples."""

    def __init__(self, activations: Activations, labels: Sequence[str]) -> None:
        self.classes = sorted(set(labels))
        features = probe_features(activations)
        self._mean, self._std = features.mean(0), features.std(0).clamp_min(1e-6)
        self._rows = self._standardised(features)
        indicators = torch.tensor([[float(label == name) for name in self.classes] for label in labels]).to(features)
        self._centre = indicators.mean(0)
        kernel = self._rows @ self._rows.T
        penalty = RIDGE * kernel.diagonal().mean() * torch.eye(len(kernel)).to(kernel)
        self._dual = torch.linalg.solve(kernel + penalty, indicators - self._centre)

    def _standardised(self, features: Tensor) -> Tensor:
        return (features - self._mean) / self._std

    def scores(self, activations: Activations) -> Values:
        """Return one score per row and class, in the order of ``classes``."""
        rows = self._standardised(probe_features(activations))
        return np.asarray((rows @ self._rows.T @ self._dual + self._centre).cpu())

    def predict(self, activations: Activations) -> list[str]:
        """Return the likeliest class of each row."""
        return [self.classes[best] for best in np.argmax(self.scores(activations), axis=1)]


def probe_features(activations: Activations) -> Tensor:
    """Return the first, last and mean read position of every layer, side by side."""
    resid, counts = activations.resid.double(), activations.mask.sum(1)
    last = resid[torch.arange(len(resid)), :, counts - 1]
    mean = resid.sum(2) / counts[:, None, None]
    return torch.cat([resid[:, :, 0], last, mean], dim=-1).flatten(1)
