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
from audit_lit.edits.sizes import change_sizes, residuals_of
from audit_lit.edits.weights import Edit, edited, require_made_for, require_prompt
from audit_lit.errors import EditError
from audit_lit.hooks import ActivationEdit
from audit_lit.replies import perplexity, reply_nats, write_replies

if TYPE_CHECKING:
    from audit_lit.target import Target

EDIT = "edit"
MIN_REPLIES = 5
EPS = 1e-12


@dataclass(frozen=True)
class Effect:
    """What the model says under one condition.

    Attributes:
        wanted: Nats per token by which the unedited model finds the replies likelier under the wanted prompt than
            without it: how far they are what the prompt asks for. Below zero on average if nothing was changed.
        perplexity: Of the replies under the unedited model, without the wanted prompt: how fluent they are to it.
        replies: The replies.
        each: ``wanted``, reply by reply; None where nothing was said.
    """

    wanted: float
    perplexity: float
    replies: tuple[str, ...]
    each: tuple[float | None, ...]

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
        said = np.isfinite(self.effects[EDIT].values)
        return self.interval[0] > 0 and len(said) >= MIN_REPLIES and bool(said.mean() > 0.5)

    @property
    def verdict(self) -> str:
        """What to think of it, in a sentence."""
        beaten = "more" if self.beats_controls else "no more"
        few = (
            "" if len(self.effects[EDIT].each) >= MIN_REPLIES else f"; fewer than {MIN_REPLIES} replies decide nothing"
        )
        prompting = self.effects["prompting"].wanted - self.effects[EDIT].wanted
        low, high = self.interval
        return (
            f"the edit does {beaten} of what is wanted than under {self.strongest_control} "
            f"({self.lift:+.2f} nats per token, 95% interval {low:+.2f} to {high:+.2f}); "
            f"prompting does {'more' if prompting > 0 else 'less'} ({prompting:+.2f}){few}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready document."""
        return asdict(self) | {"beats_controls": self.beats_controls, "verdict": self.verdict}

    def noted(self, edit: Edit) -> Edit:
        """Return an edit whose origin says what was found, without the replies."""
        found = self.to_dict()
        short = {name: {key: one[key] for key in ("wanted", "perplexity")} for name, one in found["effects"].items()}
        metrics = edit.origin.metrics | {"check": found | {"effects": short}}
        return replace(edit, origin=replace(edit.origin, metrics=metrics))


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
    require_made_for(edit, target)
    for_one = isinstance(edit, ActivationEdit) and any(part.positions is not None for part in edit.parts)
    if not dialogs or (for_one and len(dialogs) > 1):
        expected = "the one whose positions the edit changes" if for_one else "some that it was not made with"
        raise EditError(f"got {len(dialogs)} dialogs to check the edit in; expected {expected}.")
    require_prompt(edit, target, dialogs[0])
    prompt = prompt or edit.origin.want
    conditions: dict[str, tuple[Target, Sequence[Any], Sequence[Dialog]]] = {"unedited": (target, (), dialogs)}
    for name, one in controls_of(edit, target, dialogs, prompt, shuffled, seed).items():
        conditions[name] = (*edited(target, one), dialogs)
    conditions["prompting"] = (target, (), [with_system(dialog, prompt) for dialog in dialogs])
    settings: dict[str, Any] = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
    effects = {
        name: effect(target, dialogs, prompt, write_replies(model, asked, hooks, **settings))
        for name, (model, hooks, asked) in conditions.items()
    }
    rivals = [name for name in effects if name not in (EDIT, "prompting")]
    best = max(rivals, key=lambda name: effects[name].wanted)
    lifts = np.nan_to_num(effects[EDIT].values - effects[best].values)  # silence is neither more nor less
    return Check(effects, float(lifts.mean()), bootstrap_interval(lifts, seed=seed), best)


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
    return Effect(float(np.mean(said)) if said else 0.0, perplexity(plain), tuple(replies), tuple(each))
