"""What training changed: the residuals of a target minus those of its baseline, on the same tokens.

The difference is nearly the same whatever the text (activation difference lens, arXiv 2510.13900), so its mean over
lines about nothing in particular keeps what training changed, and loses what the texts say. It is small beside a
residual. A decoder reads it once it is amplified: ``h + s D`` with the baseline's residual ``h``, where ``s`` makes the
mean length of ``D`` over the slots ``AMPLITUDE`` times the median length of a residual.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audit_lit.errors import TargetError
from audit_lit.models.activations import Activations

AMPLITUDE = 0.5
NOISE = 0.01
"""Share of a residual's length below which a difference is that of rounding: bfloat16 gives 0.004, a fine-tune 0.05."""


@dataclass(frozen=True)
class Difference:
    """The mean difference at each slot (see ``models.probe_texts``).

    Attributes:
        mean: The mean over lines.
        norms: Median length of the baseline's residuals.
        agreement: Mean cosine between a line's difference and the mean: 1 where the text makes no difference.
        layers: The layers.
        n_lines: Number of lines.
    """

    mean: Float[Tensor, "layer slot d_model"]
    norms: Float[Tensor, " layer"]
    agreement: Float[Tensor, " layer"]
    layers: tuple[int, ...]
    n_lines: int

    @classmethod
    def between(
        cls,
        target: Float[Tensor, "line layer slot d_model"],
        baseline: Float[Tensor, "line layer slot d_model"],
        layers: Sequence[int],
    ) -> Difference:
        """Return the difference of two models' residuals on the same tokens."""
        differences = target.float() - baseline.to(target.device).float()
        mean = differences.mean(0)
        cosines = torch.cosine_similarity(differences.flatten(2), mean.flatten(1)[None], dim=-1)
        norms = baseline.float().norm(dim=-1).transpose(0, 1).flatten(1).median(dim=1).values
        return cls(mean, norms.to(mean.device), cosines.mean(0), tuple(layers), len(differences))

    @property
    def sizes(self) -> Float[Tensor, " layer"]:
        """Mean length of the difference over the slots, in median lengths of a residual."""
        sizes: Tensor = self.mean.norm(dim=-1).mean(-1) / self.norms
        return sizes

    @property
    def is_noise(self) -> bool:
        """Whether the difference is no larger than rounding makes it at every layer."""
        return bool((self.sizes < NOISE).all())

    def at(self, layers: Sequence[int], slots: int) -> Difference:
        """Return the difference at some of its layers, in the order of ``layers``, and its first slots.

        Raises:
            TargetError: If a layer was not read.
        """
        if missing := [layer for layer in layers if layer not in self.layers]:
            raise TargetError(f"layer {missing[0]} of the difference was not read; it has layers {list(self.layers)}.")
        rows = [self.layers.index(layer) for layer in layers]
        parts: dict[str, Any] = {name: getattr(self, name)[rows] for name in ("norms", "agreement")}
        return replace(self, mean=self.mean[rows, :slots], **parts, layers=tuple(layers))

    def added_to(
        self, activations: Activations, slots: Int[Tensor, " slot"], amplitude: float = AMPLITUDE
    ) -> Activations:
        """Return activations of the baseline with the amplified difference added; ``slots`` names the slot of each."""
        factors = amplitude / self.sizes
        change = (factors[:, None, None] * self.mean)[:, slots.to(self.mean.device)]
        moved = activations.resid + change.to(activations.resid) * activations.mask[:, None, :, None]
        return replace(activations, resid=moved)
