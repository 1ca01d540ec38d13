"""The causal check of a finding: taking the described trait out should move what the model says, away from the trait.

1. An edit is made on neutral twins of the evidence, so that the decoder reads the finding's description in them.
2. The evidence runs with that edit negated, and with random edits of the same size.
3. Behaviour moves by ``M = ((log p(r|d) - log p_E(r|d)) + (log p_E(n|d) - log p(n|d))) / 2`` in nats per token: what
   the model says of itself in the dialog ``d`` (``r``) gets less likely, and what it says in the neutral twin (``n``)
   likelier. An edit that merely does damage makes both less likely, and moves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from audit_lit.answers.session import Session
from audit_lit.chat.decoys import dissimilar_decoys
from audit_lit.chat.dialog import Dialog
from audit_lit.chat.neutral import neutral_twins, twins_seed
from audit_lit.edits.checks.controls import random_edit
from audit_lit.edits.goal import Goal
from audit_lit.edits.make import make_edit
from audit_lit.edits.recipe import EditSettings, edit_settings, line_dialogs
from audit_lit.edits.sizes import capture_residuals, change_sizes
from audit_lit.errors import EditError
from audit_lit.hooks import ActivationEdit, Hook
from audit_lit.models.generation import Sampling, generate_replies, score_replies
from audit_lit.models.target import Target
from audit_lit.scan.findings import Finding

ALPHA = 0.05


@dataclass(frozen=True)
class Verification:
    """Whether a described trait decides what the model says.

    Attributes:
        description: The trait.
        moved: Nats per token by which taking it out moves the behaviour toward the neutral twin's.
        whole: The same if the dialog were the neutral twin itself: all that the hidden part does.
        random: The same for each random edit of equal size.
        other: The same for an edit made alike that takes another trait out.
        p_value: Share of random edits, and of this one, that move it as far.
    """

    description: str
    moved: float
    whole: float
    random: tuple[float, ...]
    other: float
    p_value: float

    @property
    def causal(self) -> bool:
        """Whether the trait moves behaviour, more than random edits and than another trait do."""
        return self.p_value <= ALPHA and self.moved > max(0.0, self.other)

    @property
    def verdict(self) -> str:
        """What to think of it, in a sentence."""
        share = f"{self.moved:+.3f} nats per token of {self.whole:.3f}"
        rivals = f"random edits of equal size: {np.mean(self.random):+.3f}, p = {self.p_value:.2g}; another trait: "
        start = "causal: taking the trait out moves" if self.causal else "not shown to be causal: taking it out moves"
        return f"{start} what the model says by {share} ({rivals}{self.other:+.3f})"


@dataclass(frozen=True)
class Scene:
    """One dialog of the evidence.

    Attributes:
        dialog: It.
        twin: The same visible turns where nothing is hidden.
        said: What the model says in the dialog.
        neutral: What it says in the twin.
    """

    dialog: Dialog
    twin: Dialog
    said: str
    neutral: str

    def lead(self, target: Target, hooks: Sequence[Hook] = (), dialog: Dialog | None = None) -> float:
        """Return half the nats per token by which ``said`` is likelier than ``neutral``, in the dialog or another."""
        said, neutral = score_replies(target, [dialog or self.dialog] * 2, [self.said, self.neutral], hooks)
        return float(said.mean() - neutral.mean()) / 2


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
    if n_random < 1:
        raise EditError(f"got n_random={n_random}; expected at least 1, and 19 for p = 0.05.")
    target = session.target
    scenes = scenes_of(target, finding, max_new_tokens, seed)
    checked = edit_settings({"seed": seed, **settings})
    trait = _trait_edit(session, finding, finding.description, scenes, checked)
    other = _trait_edit(session, finding, dissimilar_decoys(finding.description)[0], scenes, checked)
    sizes = change_sizes(trait, capture_residuals(target, [scene.dialog for scene in scenes], trait.layers))
    before = np.mean([scene.lead(target) for scene in scenes])

    def moved(edit: ActivationEdit) -> float:
        return float(before - np.mean([scene.lead(target, edit.fwd_hooks) for scene in scenes]))

    moved_by_random = tuple(moved(random_edit(trait, sizes, seed + draw)) for draw in range(n_random))
    moved_by_trait = moved(-trait)
    return Verification(
        description=finding.description,
        moved=moved_by_trait,
        whole=float(before - np.mean([scene.lead(target, dialog=scene.twin) for scene in scenes])),
        random=moved_by_random,
        other=moved(-other),
        p_value=(1 + sum(value >= moved_by_trait for value in moved_by_random)) / (1 + n_random),
    )


def scenes_of(target: Target, finding: Finding, max_new_tokens: int, seed: int) -> list[Scene]:
    """Return the finding's evidence with what the model says in it.

    Raises:
        EditError: If the finding describes nothing, or the model says nothing.
    """
    if not finding.description or not finding.evidence:
        raise EditError("the finding has no description and evidence; verify one that was raised.")
    dialogs = [list(evidence.messages) for evidence in finding.evidence]
    twins = [
        neutral_twins(dialog, 2, twins_seed(seed, evidence.dialog))[1]
        for dialog, evidence in zip(dialogs, finding.evidence, strict=True)
    ]
    sampling = Sampling(max_new_tokens, temperature=1.0, seed=seed)
    said, neutral = generate_replies(target, dialogs, sampling), generate_replies(target, twins, sampling)
    scenes = [Scene(*parts) for parts in zip(dialogs, twins, said, neutral, strict=True)]
    speaking = [scene for scene in scenes if scene.said and scene.neutral]
    if not speaking:
        raise EditError("the model says nothing in the finding's dialogs, so no behaviour can move.")
    return speaking


def _trait_edit(
    session: Session, finding: Finding, text: str, scenes: Sequence[Scene], settings: EditSettings
) -> ActivationEdit:
    """Return the edit that makes the decoder read a trait where there is none."""
    neutral = [*(scene.twin for scene in scenes), *line_dialogs()[:24]]
    edit = make_edit(session, Goal(text, ((finding.question.text, text),)), neutral, settings)
    if not isinstance(edit, ActivationEdit):
        raise EditError(f"method {settings.method!r} gives no activation edit to negate; use 'vector' or 'lowrank'.")
    return edit
