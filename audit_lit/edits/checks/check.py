"""The check of an edit: its effect on the replies of the model, beside controls of the same size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from audit_lit.answers.session import Session
from audit_lit.chat.arguments import many_dialogs
from audit_lit.chat.dialog import Dialog, with_system
from audit_lit.chat.messages import read_dialog
from audit_lit.display import notebooks
from audit_lit.edits.checks.controls import EDIT, controls_of, shuffled_edit
from audit_lit.edits.goal import worded
from audit_lit.edits.recipe import Provenance, line_dialogs
from audit_lit.edits.weights import Edit, edited_target, require_edit, require_made_for, require_prompt
from audit_lit.errors import EditError
from audit_lit.hooks import ActivationEdit, Hook
from audit_lit.models.generation import Sampling, generate_replies, perplexity, score_replies
from audit_lit.models.target import Target
from audit_lit.settings import checked_seed
from audit_lit.statistics.intervals import Values, bootstrap_interval

PROMPTING = "prompting"
MIN_REPLIES = 5


@dataclass(frozen=True)
class Effect:
    """The replies of the model under one condition, and how far they are what the goal asks for.

    Attributes:
        wanted: Mean over the replies, in nats per token, by which the unedited model finds them likelier under the goal
            as a system prompt than without it. It is below zero on average if nothing was changed, and None if every
            reply is empty.
        perplexity: Perplexity of the replies under the unedited model without that prompt: how fluent they are to it.
        replies: The replies.
        each: ``wanted`` for each reply; None where it is empty.
    """

    wanted: float | None
    perplexity: float
    replies: tuple[str, ...]
    each: tuple[float | None, ...]

    @property
    def speaks(self) -> bool:
        """Whether most replies say something."""
        return sum(value is not None for value in self.each) > len(self.each) / 2

    @property
    def values(self) -> Values:
        """``each`` as an array, with NaN where the reply is empty."""
        return np.array(self.each, dtype=float)


@dataclass(frozen=True)
class Check:
    """The effect of an edit beside those of its controls.

    Attributes:
        effects: The effects by condition: ``unedited``, ``edit``, and the controls.
        lift: Nats per token by which the edit's effect exceeds that of its strongest control, prompting left out.
        interval: The 95% bootstrap interval of the lift over dialogs.
        strongest_control: Name of that control.
    """

    effects: dict[str, Effect]
    lift: float
    interval: tuple[float, float]
    strongest_control: str

    def __repr__(self) -> str:
        """Return the verdict."""
        return f"<Check: {self.verdict}>"

    def _repr_html_(self) -> str:
        """Return the effects as an HTML table."""
        rows = [
            (name, effect.wanted if effect.wanted is None else f"{effect.wanted:+z.2f}", f"{effect.perplexity:.2f}")
            for name, effect in self.effects.items()
        ]
        return notebooks.table("Check", ("replies", "wanted, nats per token", "perplexity"), rows, self.verdict)

    @property
    def beats_controls(self) -> bool:
        """Whether the interval of the lift is above zero, for enough replies, most of which say something."""
        edited = self.effects[EDIT]
        return self.interval[0] > 0 and len(edited.each) >= MIN_REPLIES and edited.speaks

    @property
    def verdict(self) -> str:
        """The result in a sentence."""
        does = "does more" if self.beats_controls else "is not shown to do more" if self.lift > 0 else "does no more"
        low, high = self.interval
        edited = self.effects[EDIT]
        too_few = "" if len(edited.each) >= MIN_REPLIES else f"; fewer than {MIN_REPLIES} replies decide nothing"
        too_few += "" if edited.speaks else "; most of its replies are empty"
        return (
            f"the edit {does} of what is wanted than under {self.strongest_control} ({self.lift:+z.2f} nats per "
            f"token, 95% interval {low:+z.2f} to {high:+z.2f}){self._prompting}{too_few}"
        )

    @property
    def _prompting(self) -> str:
        prompted, edited = self.effects[PROMPTING].wanted, self.effects[EDIT].wanted
        if prompted is None or edited is None:
            return f"; {'the edited' if edited is None else 'the prompted'} model says nothing"
        return f"; prompting does {'more' if prompted > edited else 'less'} ({prompted - edited:+z.2f})"

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready document."""
        return asdict(self) | {"beats_controls": self.beats_controls, "verdict": self.verdict}

    def noted(self, edit: Edit) -> Edit:
        """Return the edit with this check among the metrics of its origin, without the replies."""
        effects = {
            name: {"wanted": effect.wanted, "perplexity": effect.perplexity} for name, effect in self.effects.items()
        }
        metrics = edit.origin.metrics | {"check": self.to_dict() | {"effects": effects}}
        return replace(edit, origin=replace(edit.origin, metrics=metrics))


def check(
    session: Session,
    edit: Edit,
    dialogs: Sequence[Dialog] | None = None,
    *,
    shuffled: bool = True,
    prompt: str | None = None,
    seed: int = 0,
) -> Check:
    """Compare what an edit does with its controls (see ``Auditor.check``)."""
    require_edit(edit)
    seed = checked_seed(seed)
    made_in = list(Provenance.of(edit.origin).dialogs) or line_dialogs()
    checked_in = made_in if edit.origin.method == "gradient" else line_dialogs(held_out=True)
    return check_edit(
        edit,
        session.target,
        checked_in if dialogs is None else list(map(read_dialog, many_dialogs(dialogs))),
        make_shuffled=(lambda: shuffled_edit(edit, session, made_in)) if shuffled else None,
        prompt=prompt,
        seed=seed,
    )


def check_edit(
    edit: Edit,
    target: Target,
    dialogs: Sequence[Dialog],
    *,
    make_shuffled: Callable[[], Edit] | None = None,
    prompt: str | None = None,
    max_new_tokens: int = 40,
    temperature: float = 1.0,
    seed: int = 0,
) -> Check:
    """Generate replies of the unedited target, of the edited one and under every control, and compare them.

    ``make_shuffled`` makes the control ``shuffled``, and takes as long as the edit did; None leaves the control out.
    """
    require_checkable(edit, target, dialogs)
    wish = worded(prompt, edit.origin.goal)
    if not wish.strip():
        raise EditError("the edit does not say what its goal is; name it with prompt='...'.")
    shuffled = make_shuffled() if make_shuffled else None
    sampling = Sampling(max_new_tokens, temperature, seed=seed)

    def effect(speaker: Target, hooks: Sequence[Hook], spoken_in: Sequence[Dialog]) -> Effect:
        return measure_effect(target, dialogs, wish, generate_replies(speaker, spoken_in, sampling, hooks))

    effects = {"unedited": effect(target, (), dialogs)}
    for name, control in controls_of(edit, target, dialogs, wish, shuffled, seed).items():
        effects[name] = effect(*edited_target(target, control), dialogs)
    effects[PROMPTING] = effect(target, (), [with_system(dialog, wish) for dialog in dialogs])
    return _compare(effects, seed)


def measure_effect(target: Target, dialogs: Sequence[Dialog], prompt: str, replies: Sequence[str]) -> Effect:
    """Measure one reply to each dialog with the unedited model; the prompt is the goal as a system prompt."""
    plain = score_replies(target, dialogs, replies)
    prompted = score_replies(target, [with_system(dialog, prompt) for dialog in dialogs], replies)
    each = [
        float((with_prompt - without).mean()) if len(without) else None
        for without, with_prompt in zip(plain, prompted, strict=True)
    ]
    values = [value for value in each if value is not None]
    return Effect(float(np.mean(values)) if values else None, perplexity(plain), tuple(replies), tuple(each))


def require_checkable(edit: Edit, target: Target, dialogs: Sequence[Dialog]) -> None:
    """Raise unless an edit was made for the target, and there are dialogs that it can be checked in."""
    require_made_for(edit, target)
    one_prompt = isinstance(edit, ActivationEdit) and any(change.positions is not None for change in edit.interventions)
    if not dialogs or (one_prompt and len(dialogs) > 1):
        expected = "the one whose positions the edit changes" if one_prompt else "some that it was not made with"
        raise EditError(f"got {len(dialogs)} dialogs to check the edit in; expected {expected}.")
    require_prompt(edit, target, dialogs[0])


def _compare(effects: dict[str, Effect], seed: int) -> Check:
    controls = {
        name: effect.wanted
        for name, effect in effects.items()
        if name not in (EDIT, PROMPTING) and effect.wanted is not None and effect.speaks
    }
    if not controls:
        raise EditError("neither the unedited model nor any control says anything; expected dialogs that it answers.")
    strongest = max(controls, key=lambda name: controls[name])
    lifts = np.nan_to_num(effects[EDIT].values - effects[strongest].values)  # silence is neither more nor less
    return Check(effects, float(lifts.mean()), bootstrap_interval(lifts, seed=seed), strongest)
