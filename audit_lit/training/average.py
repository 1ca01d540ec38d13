"""The moving average of the weights that is measured and saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """An exponential moving average of parameters; empty for a decay of 0.

    Attributes:
        values: The average of each parameter, or, while they are swapped, its last value.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        """Start from the parameters as they are."""
        self._parameters, self._decay = parameters, decay
        self.values: dict[str, Tensor] = {}
        if decay:
            self.values = {name: parameter.detach().clone() for name, parameter in parameters.items()}

    def update(self, step: int) -> None:
        """Move the average toward the parameters after a step, counted from 1."""
        if self.values:
            # Short at first, so that the start is soon forgotten (as TensorFlow's ExponentialMovingAverage does).
            decay = min(self._decay, (1 + step) / (10 + step))
            current = [parameter.detach() for parameter in self._parameters.values()]
            torch._foreach_lerp_(list(self.values.values()), current, 1 - decay)

    def swap(self) -> None:
        """Exchange the parameters and their average."""
        for name, value in self.values.items():
            current = self._parameters[name].detach().clone()
            self._parameters[name].data.copy_(value)
            value.copy_(current)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Have the average in the place of the parameters meanwhile."""
        self.swap()
        try:
            yield
        finally:
            self.swap()
