"""Whether an edit does what was wanted: its effect on what the model says, beside controls of the same size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from audit_lit.answers.session import Session
from audit_lit.chat.dialog import Dialog, with_system
from audit_lit.edits.checks.controls import caa_edit, random_edit, shuffled_edit
from audit_lit.edits.provenance import Provenance
from audit_lit.edits.recipe import line_dialogs
from audit_lit.edits.sizes import capture_residuals, change_sizes
from audit_lit.edits.weights import Edit, edited_target, require_made_for, require_prompt
from audit_lit.errors import EditError
from audit_lit.hooks import ActivationEdit, Hook
from audit_lit.models.generation import Sampling, generate_replies, perplexity, score_replies
from audit_lit.models.target import Target
from audit_lit.statistics.intervals import bootstrap_interval
from audit_lit.statistics.values import Values

EDIT = "edit"
MIN_REPLIES = 5
EPS = 1e-12


@dataclass(frozen=True)
class Effect:
    """What the model says under one condition.

    Attributes:
        wanted: Nats per token by which the unedited model finds the replies likelier under the wanted prompt than
            without it: how far they are what the prompt asks for. Below zero on average if nothing was changed; None
            if nothing was said.
        perplexity: Of the replies under the unedited model, without the wanted prompt: how fluent they are to it.
        replies: The replies.
        each: ``wanted``, reply by reply; None where nothing was said.
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
        """The same as numbers; NaN where nothing was said."""
        return np.array(self.each, dtype=float)


@dataclass(frozen=True)
class Check:
    """An edit's effect beside its controls'.

    Attributes:
        effects: By condition: ``unedited``, ``edit``, and the controls.
        lift: Nats per token by which the edit's effect exceeds that of its strongest control but prompting.
        interval: Its 95% bootstrap interval over dialogs.
        strongest_control: Which that is.
    """

    effects: dict[str, Effect]
    lift: float
    interval: tuple[float, float]
    strongest_control: str

    @property
    def beats_controls(self) -> bool:
        """Whether the interval of the lift is above zero, of enough replies, most of which say something."""
        own = self.effects[EDIT]
        return self.interval[0] > 0 and len(own.each) >= MIN_REPLIES and own.speaks

    @property
    def verdict(self) -> str:
        """What to think of it, in a sentence."""
        beaten = "more" if self.beats_controls else "no more"
        few = (
            "" if len(self.effects[EDIT].each) >= MIN_REPLIES else f"; fewer than {MIN_REPLIES} replies decide nothing"
        )
        low, high = self.interval
        return (
            f"the edit does {beaten} of what is wanted than under {self.strongest_control} "
            f"({self.lift:+.2f} nats per token, 95% interval {low:+.2f} to {high:+.2f}){self._prompting}{few}"
        )

    @property
    def _prompting(self) -> str:
        prompted, own = self.effects["prompting"].wanted, self.effects[EDIT].wanted
        if prompted is None or own is None:
            return f"; {'the edited' if own is None else 'the prompted'} model says nothing"
        return f"; prompting does {'more' if prompted > own else 'less'} ({prompted - own:+.2f})"

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready document."""
        return asdict(self) | {"beats_controls": self.beats_controls, "verdict": self.verdict}

    def noted(self, edit: Edit) -> Edit:
        """Return an edit whose origin says what was found, without the replies."""
        found = self.to_dict()
        short = {name: {key: one[key] for key in ("wanted", "perplexity")} for name, one in found["effects"].items()}
        metrics = edit.origin.metrics | {"check": found | {"effects": short}}
        return replace(edit, origin=replace(edit.origin, metrics=metrics))


@dataclass(frozen=True)
class Condition:
    """What the replies are generated under.

    Attributes:
        target: The model that speaks.
        hooks: Hooks that are on meanwhile.
        dialogs: What it replies to.
    """

    target: Target
    hooks: Sequence[Hook]
    dialogs: Sequence[Dialog]


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
    made_in = list(Provenance.of(edit.origin).dialogs) or line_dialogs()
    others = made_in if edit.origin.method == "gradient" else line_dialogs(held_out=True)
    given = others if dialogs is None else list(dialogs)
    require_checkable(edit, session.target, given)  # before what takes long
    control = shuffled_edit(edit, session, made_in) if shuffled else None
    return check_edit(edit, session.target, given, shuffled=control, prompt=prompt, seed=seed)


def check_edit(
    edit: Edit,
    target: Target,
    dialogs: Sequence[Dialog],
    *,
    shuffled: Edit | None = None,
    prompt: str | None = None,
    max_new_tokens: int = 40,
    temperature: float = 1.0,
    seed: int = 0,
) -> Check:
    """Let the target speak unedited, edited and under every control, and compare.

    Args:
        edit: What is checked.
        target: The unedited model.
        dialogs: Others than the edit was made with.
        shuffled: The control of that name; it costs as much as the edit, so it may be left out.
        prompt: The goal as a system prompt; None takes the edit's own words.
        max_new_tokens: Length of the longest reply.
        temperature: Of the replies.
        seed: Of the replies and the random direction.

    Raises:
        EditError: If the edit was made for another model, there are no dialogs, or more than the one that it is for.
    """
    require_checkable(edit, target, dialogs)
    prompt = prompt or edit.origin.goal
    if not prompt.strip():
        raise EditError("the edit does not say what its goal is; name it with prompt='...'.")
    sampling = Sampling(max_new_tokens, temperature, seed=seed)
    effects = {}
    for name, condition in _conditions(edit, target, dialogs, prompt, shuffled, seed).items():
        replies = generate_replies(condition.target, condition.dialogs, sampling, condition.hooks)
        effects[name] = effect(target, dialogs, prompt, replies)
    return _compare(effects, seed)


def _conditions(
    edit: Edit, target: Target, dialogs: Sequence[Dialog], prompt: str, shuffled: Edit | None, seed: int
) -> dict[str, Condition]:
    edits = controls_of(edit, target, dialogs, prompt, shuffled, seed)
    return {
        "unedited": Condition(target, (), dialogs),
        **{name: Condition(*edited_target(target, control), dialogs) for name, control in edits.items()},
        "prompting": Condition(target, (), [with_system(dialog, prompt) for dialog in dialogs]),
    }


def _compare(effects: dict[str, Effect], seed: int) -> Check:
    wanted = {name: effect.wanted for name, effect in effects.items() if effect.wanted is not None and effect.speaks}
    controls = {name: value for name, value in wanted.items() if name not in (EDIT, "prompting")}
    if not controls:
        raise EditError("neither the unedited model nor any control says anything; expected dialogs that it answers.")
    strongest = max(controls, key=lambda name: controls[name])
    lifts = np.nan_to_num(effects[EDIT].values - effects[strongest].values)  # silence is neither more nor less
    return Check(effects, float(lifts.mean()), bootstrap_interval(lifts, seed=seed), strongest)


def require_checkable(edit: Edit, target: Target, dialogs: Sequence[Dialog]) -> None:
    """Raise unless an edit can be checked in some dialogs.

    Raises:
        EditError: If it was made for another model, there are no dialogs, or more than the one that it is for.
    """
    require_made_for(edit, target)
    for_one = isinstance(edit, ActivationEdit) and any(change.positions is not None for change in edit.interventions)
    if not dialogs or (for_one and len(dialogs) > 1):
        expected = "the one whose positions the edit changes" if for_one else "some that it was not made with"
        raise EditError(f"got {len(dialogs)} dialogs to check the edit in; expected {expected}.")
    require_prompt(edit, target, dialogs[0])


def controls_of(
    edit: Edit, target: Target, dialogs: Sequence[Dialog], prompt: str, shuffled: Edit | None, seed: int
) -> dict[str, Edit]:
    """Return the edit and those that it is compared with, by name."""
    edits: dict[str, Edit] = {EDIT: edit, "negated": edit.scaled(-1.0)}
    if shuffled is not None:
        edits["shuffled"] = shuffled
    if isinstance(edit, ActivationEdit):
        residuals = capture_residuals(target, dialogs, edit.layers)
        sizes = change_sizes(edit, residuals)
        if isinstance(shuffled, ActivationEdit):
            shuffled_size = sum(change_sizes(shuffled, residuals))
            edits["shuffled"] = shuffled.scaled(sum(sizes) / max(shuffled_size, EPS))
        edits["random"] = random_edit(edit, sizes, seed)
        edits["caa"] = caa_edit(edit, sizes, target, prompt, dialogs, Provenance.of(edit.origin).contrast)
    return edits


def effect(target: Target, dialogs: Sequence[Dialog], prompt: str, replies: Sequence[str]) -> Effect:
    """Measure replies with the unedited model."""
    plain = score_replies(target, dialogs, replies)
    prompted = score_replies(target, [with_system(dialog, prompt) for dialog in dialogs], replies)
    each = [float((b - a).mean()) if len(a) else None for a, b in zip(plain, prompted, strict=True)]
    said = [value for value in each if value is not None]
    return Effect(float(np.mean(said)) if said else None, perplexity(plain), tuple(replies), tuple(each))
