"""The causal check of a finding: removing the described trait should move the model's replies away from the trait.

1. An edit is made in neutral twins of the evidence, so that the decoder reads the finding's description in them.
2. The evidence runs with that edit negated, and with random edits of the same size.
3. Behaviour moves by ``M = ((log p(r|d) - log p_E(r|d)) + (log p_E(n|d) - log p(n|d))) / 2`` in nats per token: the
   model's own reply ``r`` in the dialog ``d`` becomes less likely, and its reply ``n`` in the neutral twin likelier. An
   edit that merely does damage makes both less likely, and moves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from audit_lit.answers.session import Session
from audit_lit.chat.decoys import dissimilar_decoys, neutral_twins, twins_seed
from audit_lit.chat.dialog import Dialog
from audit_lit.edits.checks.controls import random_edit
from audit_lit.edits.goal import Goal
from audit_lit.edits.make import capture_residuals, change_sizes, make_edit
from audit_lit.edits.recipe import EditSettings, edit_settings, line_dialogs
from audit_lit.errors import EditError
from audit_lit.hooks import ActivationEdit, Hook
from audit_lit.models.generation import Sampling, generate_replies, score_replies
from audit_lit.models.target import Target
from audit_lit.scan.finding import Finding
from audit_lit.settings import checked_seed

ALPHA = 0.05
MAX_RANDOM = 100_000
"""Largest number of random edits, which take a forward pass of each dialog."""
N_NEUTRAL = 24
"""Number of neutral lines that the edit is made in besides the twins."""


@dataclass(frozen=True)
class Verification:
    """Whether a described trait decides what the model says.

    Attributes:
        description: The trait.
        moved: Nats per token by which removing the trait moves behaviour towards that in the neutral twin.
        whole: The same for the neutral twin itself in place of the dialog: all that the hidden part does.
        random: The same for each random edit of equal size.
        other: The same for an edit made in the same way that removes another trait.
        p_value: Share of all these edits, this one and the random ones, that move behaviour at least as far.
    """

    description: str
    moved: float
    whole: float
    random: tuple[float, ...]
    other: float
    p_value: float

    @property
    def causal(self) -> bool:
        """Whether the trait moves behaviour, and more than random edits and another trait do."""
        return self.p_value <= ALPHA and self.moved > max(0.0, self.other)

    @property
    def verdict(self) -> str:
        """The result in a sentence."""
        share = f"{self.moved:+z.3f} nats per token of {self.whole:.3f}"
        controls = f"random edits of equal size: {np.mean(self.random):+z.3f}, p = {self.p_value:.2g}; another trait: "
        start = "causal: taking the trait out moves" if self.causal else "not shown to be causal: taking it out moves"
        return f"{start} what the model says by {share} ({controls}{self.other:+z.3f})"


@dataclass(frozen=True)
class Scene:
    """One dialog of the evidence and its twin with nothing hidden, with the model's replies in both."""

    dialog: Dialog
    twin: Dialog
    reply: str
    neutral_reply: str

    def lead(self, target: Target, hooks: Sequence[Hook] = (), dialog: Dialog | None = None) -> float:
        """Return half the nats per token by which ``reply`` is likelier than ``neutral_reply`` in a dialog."""
        texts = [self.reply, self.neutral_reply]
        scores, neutral_scores = score_replies(target, [dialog or self.dialog] * 2, texts, hooks)
        return float(scores.mean() - neutral_scores.mean()) / 2


def verify(
    session: Session,
    finding: Finding,
    *,
    n_random: int = 19,
    max_new_tokens: int = 40,
    seed: int = 0,
    **settings: Any,
) -> Verification:
    """Check whether what a finding describes decides what the model says (see ``Auditor.verify``)."""
    if not isinstance(finding, Finding):
        raise EditError(f"got {finding!r:.80} for a finding; expected one of a report, such as report.raised[0].")
    seed = checked_seed(seed)
    if not isinstance(n_random, int) or not 1 <= n_random <= MAX_RANDOM:
        raise EditError(f"got n_random={n_random!r:.80}; expected 1 to {MAX_RANDOM}, and 19 for p = 0.05.")
    target = session.target
    scenes = scenes_of(target, finding, max_new_tokens, seed)
    checked = edit_settings({"seed": seed, **settings})
    trait = _trait_edit(session, finding, finding.description, scenes, checked)
    other = _trait_edit(session, finding, dissimilar_decoys(finding.description)[0], scenes, checked)
    sizes = change_sizes(trait, capture_residuals(target, [scene.dialog for scene in scenes], trait.layers))
    before = np.mean([scene.lead(target) for scene in scenes])

    def shift(edit: ActivationEdit) -> float:
        return float(before - np.mean([scene.lead(target, edit.fwd_hooks) for scene in scenes]))

    random_shifts = tuple(shift(random_edit(trait, sizes, seed + draw)) for draw in range(n_random))
    trait_shift = shift(-trait)
    return Verification(
        description=finding.description,
        moved=trait_shift,
        whole=float(before - np.mean([scene.lead(target, dialog=scene.twin) for scene in scenes])),
        random=random_shifts,
        other=shift(-other),
        p_value=(1 + sum(random_shift >= trait_shift for random_shift in random_shifts)) / (1 + n_random),
    )


def scenes_of(target: Target, finding: Finding, max_new_tokens: int, seed: int) -> list[Scene]:
    """Return the dialogs of a finding's evidence with the model's replies; dialogs with an empty reply are left out."""
    if not finding.description or not finding.evidence:
        raise EditError("the finding has no description or no evidence; verify a finding that was raised.")
    dialogs = [list(evidence.messages) for evidence in finding.evidence]
    twins = [
        neutral_twins(dialog, 2, twins_seed(seed, evidence.dialog))[1]
        for dialog, evidence in zip(dialogs, finding.evidence, strict=True)
    ]
    sampling = Sampling(max_new_tokens, temperature=1.0, seed=seed)
    replies, neutral_replies = (generate_replies(target, variants, sampling) for variants in (dialogs, twins))
    scenes = [Scene(*values) for values in zip(dialogs, twins, replies, neutral_replies, strict=True)]
    answered = [scene for scene in scenes if scene.reply and scene.neutral_reply]
    if not answered:
        raise EditError("the model says nothing in the finding's dialogs, so that no behaviour can move.")
    return answered


def _trait_edit(
    session: Session, finding: Finding, text: str, scenes: Sequence[Scene], settings: EditSettings
) -> ActivationEdit:
    """Return the edit that makes the decoder read a trait in neutral dialogs."""
    neutral = [*(scene.twin for scene in scenes), *line_dialogs()[:N_NEUTRAL]]
    edit = make_edit(session, Goal(text, ((finding.question.text, text),)), neutral, settings)
    if not isinstance(edit, ActivationEdit):
        raise EditError(
            f"method {settings.method!r} does not give an activation edit to negate; use 'vector' or 'lowrank'."
        )
    return edit
