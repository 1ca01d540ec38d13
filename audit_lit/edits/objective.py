"""The loss that edits are made with: how unlikely the decoder finds the wanted answers about the edited target."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from audit_lit.answers.session import Session
from audit_lit.chat.dialog import Dialog, RenderedDialog, Reveal
from audit_lit.chat.rendering import render
from audit_lit.decoder.decoder import Decoder
from audit_lit.edits.goal import Goal
from audit_lit.errors import DecoderMismatch, EditError
from audit_lit.hooks import Hook
from audit_lit.models.capture import capture_batch
from audit_lit.models.target import Target


@dataclass(frozen=True)
class Objective:
    """``L(A) = -log p(answer | activations A, question)`` in nats per token (LatentQA, arXiv 2412.08686, section 3.3).

    ``A`` are the edited target's activations, so that the gradient passes from the decoder's answer back through the
    target's blocks to wherever it was edited.

    Attributes:
        session: The model that is edited, and the decoder that reads it.
        dialogs: What it is read in.
        positions: Token positions that the decoder is given, per dialog.
        goal: What the decoder should say.
        bf16: Whether the decoder computes in bfloat16; the target never does (autocast breaks padding in it).
    """

    session: Session
    dialogs: tuple[RenderedDialog, ...]
    positions: tuple[tuple[int, ...], ...]
    goal: Goal
    bf16: bool = False

    @classmethod
    def of(
        cls, session: Session, dialogs: Sequence[Dialog], goal: Goal, reveal: Reveal = "user", *, bf16: bool = False
    ) -> Objective:
        """Render dialogs and choose what is read of them.

        Raises:
            DialogError: If a dialog is malformed, or nothing in it is revealed.
            EditError: If there are none.
        """
        if not dialogs:
            raise EditError("there are no dialogs; expected some that the edited model should behave in.")
        rendered = tuple(render(dialog, session.target.tokenizer) for dialog in dialogs)
        positions = tuple(session.decoder.config.select(dialog, reveal) for dialog in rendered)
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
        return replace(self, session=replace(self.session, target=target))

    def for_layer(self, layer: int) -> Objective:
        """Return the loss as the decoder sees it at one layer.

        Raises:
            EditError: If it cannot read that layer alone.
        """
        try:
            return replace(self, session=self.session.for_layer(layer))
        except DecoderMismatch as err:
            raise EditError(f"there is no local loss at layer {layer}: {err}") from err

    def draws(self, batch_size: int, steps: int, seed: int) -> Iterator[list[int]]:
        """Yield which dialogs each step uses; all of them come equally often."""
        rng, waiting = random.Random(seed), list[int]()
        for _ in range(steps):
            while len(waiting) < batch_size:
                waiting += rng.sample(range(len(self.dialogs)), len(self.dialogs))
            yield waiting[:batch_size]
            waiting = waiting[batch_size:]

    def loss(self, hooks: Sequence[Hook], chosen: Sequence[int], turn: int = 0) -> Float[Tensor, ""]:
        """Return the mean loss over some dialogs; differentiable with respect to what the hooks hold.

        Args:
            hooks: The edit.
            chosen: Which dialogs.
            turn: Which question the first of them is asked; the next ones follow in turn.
        """
        asked = [self.goal.pairs[(turn + place) % len(self.goal.pairs)] for place in range(len(chosen))]
        with self.target.model.hooks(fwd_hooks=list(hooks)):
            rows = capture_batch(
                self.target,
                [self.dialogs[index] for index in chosen],
                [self.positions[index] for index in chosen],
                self.decoder.config.read_layers,
                grad=True,
            )
        with torch.autocast(self.target.device.type, torch.bfloat16, enabled=self.bf16):
            return self.decoder.loss(rows, [question for question, _ in asked], [answer for _, answer in asked])

    @torch.no_grad()
    def value(self, hooks: Sequence[Hook] = ()) -> float:
        """Return the mean loss over all dialogs, each asked one question, the questions in turn."""
        return float(self.loss(hooks, range(len(self.dialogs))))


Group = tuple[Objective, Sequence[Tensor]]
"""A loss, and the parameters that it decides."""


def descend(
    groups: Sequence[Group],
    hooks: Callable[[], Sequence[Hook]],
    *,
    steps: int,
    lr: float,
    batch_size: int = 8,
    seed: int = 0,
    after: Callable[[], None] = lambda: None,
) -> None:
    """Take Adam's steps down one loss per group, each with the gradient of its own parameters alone.

    Args:
        groups: One for the whole edit; one per layer for local losses.
        hooks: Returns the edit as the parameters are now.
        steps: How many.
        lr: Step size, in units of the parameters.
        batch_size: Dialogs per step.
        seed: Of the order of dialogs.
        after: Called after each step, without gradient: keeps the parameters where they may be.

    Raises:
        EditError: If a loss is not finite.
    """
    optimizer = torch.optim.Adam([parameter for _, parameters in groups for parameter in parameters], lr=lr)
    batch_size = min(batch_size, len(groups[0][0].dialogs))
    for step, chosen in enumerate(groups[0][0].draws(batch_size, steps, seed)):
        for objective, parameters in groups:
            loss = objective.loss(hooks(), chosen, turn=step * batch_size)
            if not bool(loss.isfinite()):
                raise EditError(f"the decoder's loss became {loss.item()} at step {step}; lower lr or strength.")
            for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                parameter.grad = gradient
        optimizer.step()
        with torch.no_grad():
            after()
