"""How far an edit moves a model where nothing was asked for: on neutral text, in nats and in perplexity."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from audit_lit.chat.dialog import Dialog, with_system
from audit_lit.edits.weights import Edit, edited_target
from audit_lit.errors import EditError
from audit_lit.hooks import Hook
from audit_lit.models.generation import Sampling, generate_replies, reply_distributions
from audit_lit.models.target import Target

HALVINGS = 6


@dataclass(frozen=True)
class Drift:
    """What an edit changes on neutral text.

    Attributes:
        kl: Mean KL divergence of the edited from the unedited next-token distribution, in nats per token.
        perplexity_ratio: Perplexity of the text under the edited model, over that under the unedited one.
    """

    kl: float
    perplexity_ratio: float


@dataclass(frozen=True)
class NeutralText:
    """Dialogs with what the unedited target says in them: text that it finds likely, so that drift shows.

    Attributes:
        target: The model.
        dialogs: Neutral dialogs.
        replies: Its own, sampled.
    """

    target: Target
    dialogs: tuple[Dialog, ...]
    replies: tuple[str, ...]

    @classmethod
    def of(cls, target: Target, dialogs: Sequence[Dialog], *, max_new_tokens: int = 30, seed: int = 0) -> NeutralText:
        """Let the unedited target speak.

        Raises:
            EditError: If it says nothing.
        """
        said = generate_replies(target, dialogs, Sampling(max_new_tokens, temperature=1.0, seed=seed))
        if not any(said):
            raise EditError("the unedited model says nothing in any of the dialogs; expected some that it answers.")
        kept = [(dialog, reply) for dialog, reply in zip(dialogs, said, strict=True) if reply]
        return cls(target, tuple(dialog for dialog, _ in kept), tuple(reply for _, reply in kept))

    def drift(self, edit: Edit) -> Drift:
        """Measure what an edit changes."""
        return self._drift(*edited_target(self.target, edit), self.dialogs)

    def prompted(self, system: str) -> Drift:
        """Measure what a system prompt changes."""
        return self._drift(self.target, [], [with_system(dialog, system) for dialog in self.dialogs])

    @cached_property
    def _plain(self) -> list[tuple[Tensor, Tensor]]:
        """What the unedited target makes of its replies: a few megabytes for each."""
        return list(reply_distributions(self.target, self.dialogs, self.replies))

    def _drift(self, target: Target, hooks: Sequence[Hook], dialogs: Sequence[Dialog]) -> Drift:
        moved = reply_distributions(target, dialogs, self.replies, hooks)
        kls: list[Tensor] = []
        losses: list[Tensor] = []
        for (before, own_before), (after, own_after) in zip(self._plain, moved, strict=True):
            kls.append((before.exp() * (before - after)).sum(-1))
            losses.append(own_before - own_after)
        return Drift(float(torch.cat(kls).mean()), math.exp(float(torch.cat(losses).mean())))


def within(edit: Edit, budget: float, measure: Callable[[Edit], Drift]) -> tuple[float, Drift]:
    """Return the largest factor up to 1 by which an edit stays within a budget, and its drift there.

    The factor is found by bisection, to 1 in 64; divergence grows with strength.

    Args:
        edit: What is scaled.
        budget: Largest KL divergence on neutral text, in nats per token.
        measure: Such as ``NeutralText.drift``.
    """
    drift = measure(edit)
    if drift.kl <= budget:
        return 1.0, drift
    low, high, found = 0.0, 1.0, Drift(0.0, 1.0)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        drift = measure(edit.scaled(middle))
        if drift.kl <= budget:
            low, found = middle, drift
        else:
            high = middle
    return low, found
