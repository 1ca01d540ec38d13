"""The loss that edits minimise: how unlikely the decoder finds the goal's answers about the edited target."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from audit_lit.answers.session import Session
from audit_lit.chat.dialog import Dialog, RenderedDialog, Reveal
from audit_lit.decoder.decoder import Decoder
from audit_lit.edits.goal import Goal
from audit_lit.edits.recipe import EditSettings
from audit_lit.errors import DecoderMismatch, EditError
from audit_lit.hooks import Hook
from audit_lit.models.capture import capture_batch
from audit_lit.models.target import Target


@dataclass(frozen=True)
class Objective:
    """``L(A) = -log p(answer | activations A, question)`` in nats per token (LatentQA, arXiv 2412.08686, section 3.3).

    ``A`` are the activations of the edited target. The gradient passes from the decoder's answer back through the
    target's blocks to the edit.
    """

    session: Session
    dialogs: tuple[RenderedDialog, ...]
    positions: tuple[tuple[int, ...], ...]
    """The token positions that the decoder is given, per dialog."""
    goal: Goal
    bf16: bool = False
    """Whether the decoder computes in bfloat16; the target never does, since autocast breaks its padding."""

    @classmethod
    def of(
        cls, session: Session, dialogs: Sequence[Dialog], goal: Goal, reveal: Reveal = "user", *, bf16: bool = False
    ) -> Objective:
        """Render dialogs, and select the positions to read."""
        if not dialogs:
            raise EditError("there are no dialogs; expected some that the edited model should behave in.")
        config = session.decoder.config.changed(enable_thinking=None)  # the prompt that edited replies follow
        rendered = tuple(config.render(dialog, session.target.tokenizer) for dialog in dialogs)
        positions = tuple(config.select(dialog, reveal) for dialog in rendered)
        return cls(session, rendered, positions, goal, bf16)

    @property
    def target(self) -> Target:
        """The model that is edited."""
        return self.session.target

    @property
    def decoder(self) -> Decoder:
        """The decoder that reads it."""
        return self.session.decoder

    def on(self, target: Target) -> Objective:
        """Return the loss on another model, such as an edited copy."""
        return replace(self, session=replace(self.session, given_target=target))

    def for_layer(self, layer: int) -> Objective:
        """Return the loss for a decoder that reads one layer alone."""
        try:
            return replace(self, session=self.session.for_layer(layer))
        except DecoderMismatch as err:
            raise EditError(f"there is no local loss at layer {layer}: {err}") from err

    def draws(self, batch_size: int, steps: int, seed: int) -> Iterator[list[int]]:
        """Yield the indices of the dialogs of each step; every dialog is drawn equally often."""
        rng, waiting = random.Random(seed), list[int]()
        for _ in range(steps):
            while len(waiting) < batch_size:
                waiting += rng.sample(range(len(self.dialogs)), len(self.dialogs))
            yield waiting[:batch_size]
            waiting = waiting[batch_size:]

    def loss(self, hooks: Sequence[Hook], chosen: Sequence[int], turn: int = 0) -> Float[Tensor, ""]:
        """Return the mean loss over the chosen dialogs, differentiable with respect to the tensors of the hooks.

        ``turn`` is the index of the question for the first dialog; the others are asked the next questions in turn.
        """
        dialogs, positions = [self.dialogs[index] for index in chosen], [self.positions[index] for index in chosen]
        pairs = [self.goal.pairs[(turn + place) % len(self.goal.pairs)] for place in range(len(chosen))]
        with self.target.model.hooks(fwd_hooks=list(hooks)):
            activations = capture_batch(self.target, dialogs, positions, self.decoder.config.read_layers, grad=True)
        with torch.autocast(self.target.device.type, torch.bfloat16, enabled=self.bf16):
            return self.decoder.loss(activations, [question for question, _ in pairs], [answer for _, answer in pairs])

    @torch.no_grad()
    def value(self, hooks: Sequence[Hook] = ()) -> float:
        """Return the mean loss over all dialogs; each is asked one question, and the questions take turns."""
        return float(self.loss(hooks, range(len(self.dialogs))))


Group = tuple[Objective, Sequence[Tensor]]
"""A loss, and the parameters that follow its gradient."""


def descend(
    groups: Sequence[Group],
    hooks: Callable[[], Sequence[Hook]],
    settings: EditSettings,
    *,
    lr: float,
    after: Callable[[], None] = lambda: None,
) -> None:
    """Minimise the loss of each group by Adam, with respect to the parameters of that group alone.

    ``hooks`` returns the hooks of the edit with the present parameters, in whose units ``lr`` is; ``after`` is called
    after each step, without gradient, to keep them within their bounds.
    """
    optimizer = torch.optim.Adam([parameter for _, parameters in groups for parameter in parameters], lr=lr)
    batch_size = min(settings.batch_size, len(groups[0][0].dialogs))
    for step, chosen in enumerate(groups[0][0].draws(batch_size, settings.steps, settings.seed)):
        for objective, parameters in groups:
            loss = objective.loss(hooks(), chosen, turn=step * batch_size)
            if not bool(loss.isfinite()):
                raise EditError(f"the decoder's loss became {loss.item()} at step {step}; lower lr or strength.")
            for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                parameter.grad = gradient
        optimizer.step()
        with torch.no_grad():
            after()
