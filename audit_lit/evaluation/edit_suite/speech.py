"""What a target says under an edit or a control: how it sounds, and how fluent it is to the unedited model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from audit_lit.chat.dialog import Dialog, with_system
from audit_lit.edits.weights import Edit, edited_target
from audit_lit.hooks import ActivationEdit
from audit_lit.models.generation import Sampling, generate_replies, perplexity, score_replies
from audit_lit.models.target import Target
from audit_lit.statistics.intervals import Values
from audit_lit.statistics.text_overlap import distinct

TEMPERATURE = 0.7
"""As people sample from chat models; at 1, a small one's tail drowns everything."""


@dataclass(frozen=True)
class Condition:
    """What a target speaks under: an edit, an edit for each dialog, a system prompt, or nothing."""

    edit: Edit | None = None
    each: Mapping[str, ActivationEdit] | None = None
    """By the dialog's user line: the edits of the method ``gradient``."""
    system: str | None = None

    @property
    def one_strength(self) -> bool:
        """Whether it is measured at its own strength alone: words have none, and an edit for each line takes long."""
        return self.system is not None or self.each is not None

    def scaled(self, factor: float) -> Condition:
        """Return the condition with its edits scaled."""
        edit = self.edit.scaled(factor) if self.edit is not None else None
        each = {line: edit.scaled(factor) for line, edit in self.each.items()} if self.each is not None else None
        return Condition(edit, each, self.system)

    def replies(self, target: Target, dialogs: Sequence[Dialog], max_new_tokens: int, seed: int) -> list[str]:
        """Let the target reply in each dialog, sampled."""
        prompted = [with_system(dialog, self.system) if self.system else dialog for dialog in dialogs]
        sampling = Sampling(max_new_tokens, TEMPERATURE, seed=seed)
        if self.each is not None:
            edits = [self.each[dialog[-1]["content"]] for dialog in prompted]
            pairs = zip(prompted, edits, strict=True)
            return [generate_replies(target, [dialog], sampling, edit.fwd_hooks)[0] for dialog, edit in pairs]
        model, hooks = edited_target(target, self.edit) if self.edit is not None else (target, [])
        return generate_replies(model, prompted, sampling, hooks)


@dataclass(frozen=True)
class Speech:
    """Replies to some lines: for each seed, one to each line."""

    replies: tuple[tuple[str, ...], ...]
    scores: Values
    """For each line, the mean score of the replies that say something; NaN if none does."""
    perplexity: float
    """Perplexity of all replies under the unedited model, without any system prompt."""
    distinct2: float
    """Share of different word pairs among all (Li et al., arXiv 1510.03055)."""

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
    """Let a target speak under a condition, and measure what it says.

    Each seed is one higher than the last; a condition that has an edit for each dialog takes but one seed.
    """
    seeds = range(seed, seed + (1 if condition.each is not None else n_seeds))
    drawn = tuple(tuple(condition.replies(target, dialogs, max_new_tokens, number)) for number in seeds)
    nats = [reply_nats for replies in drawn for reply_nats in score_replies(target, dialogs, replies)]
    texts = [reply for replies in drawn for reply in replies]
    scores = np.array([[score(reply) if reply else np.nan for reply in replies] for replies in drawn])
    n_spoken = np.isfinite(scores).sum(0)
    means = np.where(n_spoken, np.nansum(scores, 0) / np.maximum(n_spoken, 1), np.nan)
    return Speech(drawn, means, perplexity(nats), distinct(2, texts))
