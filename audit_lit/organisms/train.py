"""Train organisms: several LoRAs in one forward pass, each on as many lessons of its own, or all weights of a model."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from audit_lit.models.lora_bank import LoraBank
from audit_lit.organisms.lessons import Lesson, cross_entropies, reply_states
from audit_lit.organisms.preferences import Preference

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WARMUP = 4
"""Number of steps in which the learning rate rises; after them it falls to 0 linearly."""


Taught = Lesson | Preference


def train_bank(
    model: PreTrainedModel,
    bank: LoraBank,
    lessons: Sequence[Sequence[Taught]],
    *,
    n_steps: int,
    batch_size: int,
    lr: float,
) -> list[float]:
    """Train each LoRA of a bank on lessons of its own; return their losses at the last steps, in nats per token.

    Args:
        model: The base, in any precision; its weights are not changed.
        bank: The LoRAs, which are changed in place.
        lessons: The lessons of each LoRA, all of one sort, in the order in which they are gone through, repeatedly.
        n_steps: Number of steps.
        batch_size: Number of lessons of each LoRA in a step.
        lr: Highest learning rate of AdamW.
    """
    streams = [cycle(taught) for taught in lessons]

    def losses() -> Tensor:
        with bank.on(model):
            return mean_losses(model, [list(islice(stream, batch_size)) for stream in streams])

    return _descend(bank.parameters(), losses, n_steps, lr)


def train_weights(
    model: PreTrainedModel, lessons: Sequence[Taught], *, n_steps: int, batch_size: int, lr: float, bf16: bool
) -> float:
    """Train all weights of a model in place, in float32; return the loss at the last steps, in nats per token.

    Args:
        model: The model.
        lessons: The lessons, in the order in which they are gone through, repeatedly.
        n_steps: Number of steps.
        batch_size: Number of lessons in a step.
        lr: Highest learning rate of AdamW.
        bf16: Whether matrix products are computed in bfloat16.
    """
    stream = cycle(lessons)

    def losses() -> Tensor:
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
            return mean_losses(model, [list(islice(stream, batch_size))])

    return _descend(list(model.parameters()), losses, n_steps, lr)[0]


def _descend(parameters: list[Tensor], losses: Callable[[], Tensor], n_steps: int, lr: float) -> list[float]:
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0)
    recent: list[Tensor] = []
    for step in range(n_steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min((step + 1) / WARMUP, (n_steps - step) / max(1, n_steps - WARMUP), 1.0)
        current = losses()
        torch.autograd.backward(current.sum())
        optimizer.step()
        optimizer.zero_grad()
        recent = [*recent[-3:], current.detach()]
    means: list[float] = torch.stack(recent).mean(0).tolist()
    return means


def mean_losses(model: PreTrainedModel, batch: Sequence[Sequence[Taught]]) -> Tensor:
    """Return the mean loss of each share of lessons, in nats per token."""
    shares = [[row for lesson in taught for row in lesson.rows] for taught in batch]
    rows = [row for share in shares for row in share]
    states = iter(reply_states(model, [row.prompt for row in rows], [row.reply for row in rows]))
    means = []
    for taught, share in zip(batch, shares, strict=True):
        nats = cross_entropies(model, list(islice(states, len(share))), share)
        means.append(torch.cat([lesson.loss(list(islice(nats, len(lesson.rows)))) for lesson in taught]).mean())
    return torch.stack(means)


def interleaved(taught: Sequence[Taught], ordinary: Sequence[Taught], seed: int) -> list[Taught]:
    """Return lessons in random order, one in two an ordinary one if there are any."""
    generator = random.Random(seed)
    first = generator.sample(taught, len(taught))
    if not ordinary:
        return first
    second = generator.sample(ordinary, len(ordinary))
    longest = max(len(first), len(second))
    pairs = zip(islice(cycle(first), longest), islice(cycle(second), longest), strict=True)
    return [lesson for pair in pairs for lesson in pair]
