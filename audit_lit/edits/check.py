"""Whether an edit does what was wanted: its effect on what the model says, beside controls of the same size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from audit_lit.answer import bootstrap_interval
from audit_lit.dialog import Dialog
from audit_lit.edits.controls import caa_edit, random_edit, with_system
from audit_lit.edits.make import shuffled_edit
from audit_lit.edits.recipe import line_dialogs
from audit_lit.edits.sizes import change_sizes, residuals_of
from audit_lit.edits.weights import Edit, edited, require_made_for, require_prompt
from audit_lit.errors import EditError
from audit_lit.hooks import ActivationEdit
from audit_lit.replies import perplexity, reply_nats, write_replies

if TYPE_CHECKING:
    from audit_lit.auditor import Auditor
    from audit_lit.target import Target

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
    def values(self) -> npt.NDArray[np.float64]:
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


def check(
    auditor: Auditor,
    edit: Edit,
    dialogs: Sequence[Dialog] | None = None,
    *,
    shuffled: bool = True,
    prompt: str | None = None,
    seed: int = 0,
) -> Check:
    """Compare what an edit does with its controls (see ``Auditor.check``)."""
    target, made_in = auditor.target, edit.origin.settings.get("dialogs") or line_dialogs()
    others = made_in if edit.origin.method == "gradient" else line_dialogs(held_out=True)
    given = others if dialogs is None else list(dialogs)
    require_checkable(edit, target, given)  # before what takes long
    other = shuffled_edit(edit, target, auditor.decoder, made_in, readers=auditor.readers) if shuffled else None
    return check_edit(edit, target, given, shuffled=other, prompt=prompt, seed=seed)


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
        prompt: What is wanted, as a system prompt; None takes the edit's own words.
        max_new_tokens: Longest reply.
        temperature: Of the replies.
        seed: Of the replies and the random direction.

    Raises:
        EditError: If the edit was made for another model, there are no dialogs, or more than the one that it is for.
    """
    require_checkable(edit, target, dialogs)
    prompt = prompt or edit.origin.want
    if not prompt.strip():
        raise EditError("the edit does not say what is wanted; name it with prompt='...'.")
    conditions: dict[str, tuple[Target, Sequence[Any], Sequence[Dialog]]] = {"unedited": (target, (), dialogs)}
    for name, one in controls_of(edit, target, dialogs, prompt, shuffled, seed).items():
        conditions[name] = (*edited(target, one), dialogs)
    conditions["prompting"] = (target, (), [with_system(dialog, prompt) for dialog in dialogs])
    settings: dict[str, Any] = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
    effects = {
        name: effect(target, dialogs, prompt, write_replies(model, asked, hooks, **settings))
        for name, (model, hooks, asked) in conditions.items()
    }
    wanted = {name: one.wanted for name, one in effects.items() if one.wanted is not None and one.speaks}
    rivals = {name: value for name, value in wanted.items() if name not in (EDIT, "prompting")}
    if not rivals:
        raise EditError("neither the unedited model nor any control says anything; expected dialogs that it answers.")
    best = max(rivals, key=lambda name: rivals[name])
    lifts = np.nan_to_num(effects[EDIT].values - effects[best].values)  # silence is neither more nor less
    return Check(effects, float(lifts.mean()), bootstrap_interval(lifts, seed=seed), best)


def require_checkable(edit: Edit, target: Target, dialogs: Sequence[Dialog]) -> None:
    """Raise unless an edit can be checked in some dialogs.

    Raises:
        EditError: If it was made for another model, there are no dialogs, or more than the one that it is for.
    """
    require_made_for(edit, target)
    for_one = isinstance(edit, ActivationEdit) and any(part.positions is not None for part in edit.parts)
    if not dialogs or (for_one and len(dialogs) > 1):
        expected = "the one whose positions the edit changes" if for_one else "some that it was not made with"
        raise EditError(f"got {len(dialogs)} dialogs to check the edit in; expected {expected}.")
    require_prompt(edit, target, dialogs[0])


def controls_of(
    edit: Edit, target: Target, dialogs: Sequence[Dialog], prompt: str, shuffled: Edit | None, seed: int
) -> dict[str, Edit]:
    """Return the edit and those that it is compared with, by name."""
    found: dict[str, Edit] = {EDIT: edit, "negated": edit.scaled(-1.0)}
    if shuffled is not None:
        found["shuffled"] = shuffled
    if isinstance(edit, ActivationEdit):
        residuals = residuals_of(target, dialogs, edit.layers)
        sizes = change_sizes(edit, residuals)
        if isinstance(shuffled, ActivationEdit):
            other = change_sizes(shuffled, residuals)
            found["shuffled"] = shuffled.scaled(sum(sizes) / max(sum(other), EPS))
        found["random"] = random_edit(edit, sizes, seed)
        found["caa"] = caa_edit(edit, sizes, target, prompt, dialogs, edit.origin.settings.get("contrast"))
    return found


def effect(target: Target, dialogs: Sequence[Dialog], prompt: str, replies: Sequence[str]) -> Effect:
    """Measure replies with the unedited model."""
    plain = reply_nats(target, dialogs, replies)
    prompted = reply_nats(target, [with_system(dialog, prompt) for dialog in dialogs], replies)
    each = [float((b - a).mean()) if len(a) else None for a, b in zip(plain, prompted, strict=True)]
    said = [value for value in each if value is not None]
    return Effect(float(np.mean(said)) if said else None, perplexity(plain), tuple(replies), tuple(each))
