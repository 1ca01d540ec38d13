"""How much an edit changes a model on neutral text, where nothing should change: in nats and in perplexity."""

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
"""Steps of the bisection, which find the factor to 1 in 64."""


@dataclass(frozen=True)
class Drift:
    """What an edit changes on neutral text."""

    kl: float
    """Mean KL divergence of the edited from the unedited next-token distribution, in nats per token."""
    perplexity_ratio: float
    """Perplexity of the text under the edited model, divided by that under the unedited model."""


@dataclass(frozen=True)
class NeutralText:
    """Neutral dialogs with replies of the unedited target: text that it finds likely, so that drift shows."""

    target: Target
    dialogs: tuple[Dialog, ...]
    replies: tuple[str, ...]

    @classmethod
    def of(cls, target: Target, dialogs: Sequence[Dialog], *, max_new_tokens: int = 30, seed: int = 0) -> NeutralText:
        """Let the unedited target reply in each dialog; those in which it says nothing are left out."""
        replies = generate_replies(target, dialogs, Sampling(max_new_tokens, temperature=1.0, seed=seed))
        if not any(replies):
            raise EditError("the unedited model says nothing in any of the dialogs; expected some that it answers.")
        answered = [(dialog, reply) for dialog, reply in zip(dialogs, replies, strict=True) if reply]
        return cls(target, tuple(dialog for dialog, _ in answered), tuple(reply for _, reply in answered))

    def drift(self, edit: Edit) -> Drift:
        """Measure what an edit changes."""
        return self._drift(*edited_target(self.target, edit), self.dialogs)

    def prompted(self, system: str) -> Drift:
        """Measure what a system prompt changes."""
        return self._drift(self.target, [], [with_system(dialog, system) for dialog in self.dialogs])

    @cached_property
    def _plain(self) -> list[tuple[Tensor, Tensor]]:
        """The distributions of the unedited target over its replies: a few megabytes for each reply."""
        return list(reply_distributions(self.target, self.dialogs, self.replies))

    def _drift(self, target: Target, hooks: Sequence[Hook], dialogs: Sequence[Dialog]) -> Drift:
        changed = reply_distributions(target, dialogs, self.replies, hooks)
        kls: list[Tensor] = []
        losses: list[Tensor] = []
        for (before, reply_before), (after, reply_after) in zip(self._plain, changed, strict=True):
            kls.append((before.exp() * (before - after)).sum(-1))
            losses.append(reply_before - reply_after)
        return Drift(float(torch.cat(kls).mean()), math.exp(float(torch.cat(losses).mean())))


def largest_factor(edit: Edit, budget: float, measure: Callable[[Edit], Drift]) -> tuple[float, Drift]:
    """Return the largest factor up to 1 with which an edit keeps within a budget, and its drift with that factor.

    The factor is found by bisection, since divergence grows with strength. The budget is a KL divergence in nats per
    token, measured by a function such as ``NeutralText.drift``.
    """
    drift = measure(edit)
    if drift.kl <= budget:
        return 1.0, drift
    low, high, drift_at_low = 0.0, 1.0, Drift(0.0, 1.0)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        drift = measure(edit.scaled(middle))
        if drift.kl <= budget:
            low, drift_at_low = middle, drift
        else:
            high = middle
    return low, drift_at_low
