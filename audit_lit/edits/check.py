"""Whether an edit does what was wanted: its effect on what the model says, beside controls of the same size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from audit_lit.answer import bootstrap_interval
from audit_lit.dialog import Dialog
from audit_lit.edits.controls import caa_edit, change_sizes, random_edit, with_system
from audit_lit.edits.weights import Edit, edited, require_made_for
from audit_lit.errors import EditError
from audit_lit.hooks import ActivationEdit
from audit_lit.replies import reply_nats, write_replies

if TYPE_CHECKING:
    from audit_lit.target import Target

EDIT = "edit"


@dataclass(frozen=True)
class Effect:
    """What the model says under one condition.

    Attributes:
        wanted: Nats per token by which the unedited model finds the replies likelier under the wanted prompt than
            without it: how far they are what the prompt asks for. Zero on average if nothing was changed.
        perplexity: Of the replies under the unedited model, without the wanted prompt: how fluent they are to it.
        replies: The replies.
        each: ``wanted``, reply by reply.
    """

    wanted: float
    perplexity: float
    replies: tuple[str, ...]
    each: tuple[float, ...]


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
        """Whether the interval of the lift is above zero."""
        return self.interval[0] > 0

    @property
    def verdict(self) -> str:
        """What to think of it, in a sentence."""
        beaten = "more" if self.beats_controls else "no more"
        prompting = self.effects["prompting"].wanted - self.effects[EDIT].wanted
        low, high = self.interval
        return (
            f"the edit does {beaten} of what is wanted than {self.strongest_control} of the same size "
            f"({self.lift:+.2f} nats per token, 95% interval {low:+.2f} to {high:+.2f}); "
            f"prompting does {'more' if prompting > 0 else 'less'} ({prompting:+.2f})"
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
    rivals = [name for name in effects if name not in (EDIT, "unedited", "prompting")]
    best = max(rivals, key=lambda name: effects[name].wanted)
    lifts = np.subtract(effects[EDIT].each, effects[best].each)
    return Check(effects, float(lifts.mean()), bootstrap_interval(lifts, seed=seed), best)


def controls_of(
    edit: Edit, target: Target, dialogs: Sequence[Dialog], prompt: str, shuffled: Edit | None, seed: int
) -> dict[str, Edit]:
    """Return the edit and those that it is compared with, by name."""
    found: dict[str, Edit] = {EDIT: edit, "negated": edit.scaled(-1.0)}
    if shuffled is not None:
        found["shuffled"] = shuffled
    if isinstance(edit, ActivationEdit):
        sizes = change_sizes(edit, target, dialogs)
        found["random"] = random_edit(edit, sizes, seed)
        found["caa"] = caa_edit(edit, sizes, target, prompt, dialogs, edit.origin.settings.get("contrast"))
    return found


def effect(target: Target, dialogs: Sequence[Dialog], prompt: str, replies: Sequence[str]) -> Effect:
    """Measure replies with the unedited model."""
    plain = reply_nats(target, dialogs, replies)
    prompted = reply_nats(target, [with_system(dialog, prompt) for dialog in dialogs], replies)
    each = [float((b - a).mean()) if len(a) else 0.0 for a, b in zip(plain, prompted, strict=True)]
    n_tokens = sum(map(len, plain))
    nats = sum(float(own.sum()) for own in plain) / max(n_tokens, 1)
    return Effect(float(np.mean(each)), float(np.exp(-nats)), tuple(replies), tuple(each))
