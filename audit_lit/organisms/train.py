"""Train several organisms in one forward pass: each step gives every LoRA of a bank as many lessons of its own."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from audit_lit.models.lora_bank import LoraBank
from audit_lit.organisms.lessons import Lesson, reply_states

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WARMUP = 4
"""Number of steps in which the learning rate rises; after them it falls to 0 linearly."""


def train_bank(
    model: PreTrainedModel,
    bank: LoraBank,
    lessons: Sequence[Sequence[Lesson]],
    *,
    n_steps: int,
    batch_size: int,
    lr: float,
) -> list[float]:
    """Train each LoRA of a bank on lessons of its own; return their losses at the last steps, in nats per token.

    Args:
        model: The base, in any precision; its weights are not changed.
        bank: The LoRAs, which are changed in place.
        lessons: The lessons of each LoRA, in the order in which they are gone through, again and again.
        n_steps: Number of steps.
        batch_size: Number of lessons of each LoRA in a step.
        lr: Highest learning rate of AdamW.
    """
    optimizer = torch.optim.AdamW(bank.parameters(), lr=lr, weight_decay=0.0)
    streams = [cycle(taught) for taught in lessons]
    recent: list[Tensor] = []
    for step in range(n_steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min((step + 1) / WARMUP, (n_steps - step) / max(1, n_steps - WARMUP), 1.0)
        batch = [list(islice(stream, batch_size)) for stream in streams]
        losses = _losses(model, bank, batch)
        torch.autograd.backward(losses.sum())
        optimizer.step()
        optimizer.zero_grad()
        recent = [*recent[-3:], losses.detach()]
    means: list[float] = torch.stack(recent).mean(0).tolist()
    return means


def _losses(model: PreTrainedModel, bank: LoraBank, batch: Sequence[Sequence[Lesson]]) -> Tensor:
    """Return the mean cross-entropy of each LoRA's lessons, in nats per token."""
    rows = [lesson for taught in batch for lesson in taught]
    with bank.on(model):
        states = reply_states(model, [row.prompt for row in rows], [row.reply for row in rows])
    losses = []
    for start in range(0, len(rows), len(batch[0])):
        share = slice(start, start + len(batch[0]))
        logits = model.lm_head(torch.cat(states[share])).float()
        losses.append(torch.cat(list(_cross_entropies(logits, rows[share]))).mean())
    return torch.stack(losses)


def _cross_entropies(logits: Tensor, lessons: Sequence[Lesson]) -> Iterator[Tensor]:
    """Yield the cross-entropy at each token of each reply."""
    normalisers = logits.logsumexp(-1)
    start = 0
    for lesson in lessons:
        tokens = slice(start, start := start + len(lesson.reply))
        chosen = logits[tokens].gather(1, lesson.choices.to(logits.device))
        nats = chosen - normalisers[tokens][:, None]
        yield -(lesson.weights.to(logits.device) * nats).sum(-1)


def interleaved(taught: Sequence[Lesson], ordinary: Sequence[Lesson], seed: int) -> list[Lesson]:
    """Return lessons in random order, one in two an ordinary one if there are any."""
    generator = random.Random(seed)
    first = generator.sample(taught, len(taught))
    if not ordinary:
        return first
    second = generator.sample(ordinary, len(ordinary))
    longest = max(len(first), len(second))
    pairs = zip(islice(cycle(first), longest), islice(cycle(second), longest), strict=True)
    return [lesson for pair in pairs for lesson in pair]
