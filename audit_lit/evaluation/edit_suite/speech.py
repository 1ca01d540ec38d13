"""What a target says under an edit or a control: how it sounds, and how fluent it is to the unedited model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from audit_lit.chat.dialog import Dialog, with_system
from audit_lit.edits.weights import Edit, edited_target
from audit_lit.models.generation import Sampling, generate_replies, perplexity, score_replies
from audit_lit.models.target import Target
from audit_lit.statistics.text_overlap import distinct
from audit_lit.statistics.values import Values

if TYPE_CHECKING:
    from audit_lit.hooks import ActivationEdit

TEMPERATURE = 0.7
"""As people sample from chat models; at 1, a small one's tail drowns everything."""


@dataclass(frozen=True)
class Condition:
    """What a target speaks under.

    Attributes:
        edit: On while it speaks; None leaves it as it is.
        each: An edit for each dialog instead, by its user line: those of the method ``gradient``.
        system: A system prompt.
    """

    edit: Edit | None = None
    each: Mapping[str, ActivationEdit] | None = None
    system: str | None = None

    @property
    def one_strength(self) -> bool:
        """Whether it is measured as it is alone: words have no strength, and an edit for each line takes long."""
        return self.system is not None or self.each is not None

    def scaled(self, factor: float) -> Condition:
        """Return the condition with its edits scaled."""
        edit = self.edit.scaled(factor) if self.edit is not None else None
        each = {line: one.scaled(factor) for line, one in self.each.items()} if self.each is not None else None
        return Condition(edit, each, self.system)

    def replies(self, target: Target, dialogs: Sequence[Dialog], max_new_tokens: int, seed: int) -> list[str]:
        """Let the target speak, sampled."""
        asked = [with_system(dialog, self.system) if self.system else dialog for dialog in dialogs]
        sampling = Sampling(max_new_tokens, TEMPERATURE, seed=seed)
        if self.each is not None:
            hooks = [self.each[dialog[-1]["content"]].fwd_hooks for dialog in asked]
            return [generate_replies(target, [one], sampling, own)[0] for one, own in zip(asked, hooks, strict=True)]
        model, on = edited_target(target, self.edit) if self.edit is not None else (target, [])
        return generate_replies(model, asked, sampling, on)


@dataclass(frozen=True)
class Speech:
    """Replies to some lines, several to each.

    Attributes:
        replies: Line by line for each seed.
        scores: Of each line, the mean over the replies that say something; NaN if none does.
        perplexity: Of all of them under the unedited model, without any system prompt.
        distinct2: Share of different word pairs among all (Li et al., arXiv 1510.03055).
    """

    replies: tuple[tuple[str, ...], ...]
    scores: Values
    perplexity: float
    distinct2: float

    @property
    def silent(self) -> float:
        """Share of replies that say nothing."""
        return float(np.mean([not reply for replies in self.replies for reply in replies]))


def speak(
    target: Target,
    condition: Condition,
    dialogs: Sequence[Dialog],
    score: Callable[[str], float],
    *,
    n_seeds: int,
    max_new_tokens: int = 30,
    seed: int = 0,
) -> Speech:
    """Let a target speak under a condition and measure what it says; with an edit for each line, once."""
    n_seeds = 1 if condition.each is not None else n_seeds
    drawn = tuple(tuple(condition.replies(target, dialogs, max_new_tokens, seed + at)) for at in range(n_seeds))
    scores = np.array([[score(reply) if reply else np.nan for reply in replies] for replies in drawn])
    n_said = np.isfinite(scores).sum(0)
    means = np.where(n_said, np.nansum(scores, 0) / np.maximum(n_said, 1), np.nan)
    nats = [own for replies in drawn for own in score_replies(target, dialogs, replies)]
    return Speech(drawn, means, perplexity(nats), distinct(2, [reply for replies in drawn for reply in replies]))
