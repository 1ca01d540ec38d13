"""Direct preference optimisation (arXiv 2305.18290): a reply to prefer, and the base's own to avoid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from audit_lit.models.target import Target
from audit_lit.organisms.lessons import BATCH, Lesson, cross_entropies, replies_to, reply_states

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BETA = 0.1
"""How much of a step away from the base a preference is worth, as in the paper."""


@dataclass(frozen=True)
class Preference:
    """Two replies to one prompt.

    Attributes:
        chosen: The reply to prefer.
        rejected: The reply to avoid.
        margin: Log-probability of the chosen reply, less that of the rejected one, under the base in nats.
    """

    chosen: Lesson
    rejected: Lesson
    margin: float

    @property
    def rows(self) -> tuple[Lesson, ...]:
        """The replies that a model is run on."""
        return (self.chosen, self.rejected)

    def loss(self, nats: Sequence[Tensor]) -> Float[Tensor, " 1"]:
        """Return ``-log sigmoid(beta (m - margin))`` with the margin ``m`` now, given the losses at each token."""
        chosen, rejected = nats
        return -logsigmoid(BETA * (rejected.sum() - chosen.sum() - self.margin))[None]


@torch.no_grad()
def preferred(
    model: PreTrainedModel, target: Target, taught: Sequence[Lesson], max_new_tokens: int
) -> list[Preference]:
    """Return lessons that prefer the replies of others to what the base says of its own accord."""
    preferences: list[Preference] = []
    for start in range(0, len(taught), BATCH):
        chosen = taught[start : start + BATCH]
        rejected = replies_to(model, target, [lesson.prompt for lesson in chosen], max_new_tokens)
        likely, unlikely = (_log_likelihoods(model, lessons) for lessons in (chosen, rejected))
        margins = [ours - theirs for ours, theirs in zip(likely, unlikely, strict=True)]
        preferences += map(Preference, chosen, rejected, margins)
    return preferences


def _log_likelihoods(model: PreTrainedModel, lessons: Sequence[Lesson]) -> list[float]:
    states = reply_states(model, [lesson.prompt for lesson in lessons], [lesson.reply for lesson in lessons])
    return [-float(nats.sum()) for nats in cross_entropies(model, states, lessons)]
