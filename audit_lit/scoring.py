"""Log-probabilities of given answers under a causal language model, and its own answers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from audit_lit.prompt import Batch

N_AT_ONCE = 7
MIN_SHARED = 8
Context = AbstractContextManager[None]
Scores = list[Float[Tensor, " answer"]]


def score(
    model: nn.Module, batch: Batch, writing: Callable[[Bool[Tensor, "batch rest"]], Context] = lambda _: nullcontext()
) -> Scores:
    """Return the log-probability in nats of each answer token of each row.

    What all rows begin with (the same question, the same text) is computed once.

    Args:
        model: A causal language model.
        batch: Prompts and answers.
        writing: Returns the context to run in, given where the slots are in what is run.
    """
    n_rows, past = batch.token_ids.shape[0], None
    n = 0 if model.training or n_rows == 1 else shared_prefix(batch)
    if n:
        past = model(input_ids=batch.token_ids[:1, :n], position_ids=batch.position_ids[:1, :n]).past_key_values
        past.batch_repeat_interleave(n_rows)
    length = batch.token_ids.shape[1] - n
    with writing(batch.slots[:, n:]):
        logits = model(
            input_ids=batch.token_ids[:, n:],
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids[:, n:],
            past_key_values=past,
            # As indices, not as a number: a slice would stay strided and turn the head into many small products.
            logits_to_keep=torch.arange(length - batch.n_answer - 1, length - 1, device=batch.token_ids.device),
            use_cache=past is not None,
        ).logits
    nats = _nats(logits, batch.token_ids[:, -batch.n_answer :])
    return [row[mask] for row, mask in zip(nats, batch.answer_mask, strict=True)]


def shared_prefix(batch: Batch) -> int:
    """Return how many of the first tokens are the same in every row, and come before any slot and any answer.

    Zero if they are too few to be worth a call of their own.
    """
    ids, positions = batch.token_ids, batch.position_ids
    same = (ids == ids[:1]).all(0) & (positions == positions[:1]).all(0)
    plain = same & batch.attention_mask.bool().all(0) & ~batch.slots.any(0)
    before = ids.shape[1] - batch.n_answer - 1  # the last prompt token gives the first answer token's logits
    n = int(plain[:before].long().cumprod(0).sum())
    return n if n >= MIN_SHARED else 0


def run_prompt(model: nn.Module, batch: Batch) -> Any:
    """Run a batch without answers; returns the last logits, and keys and values to go on from."""
    return model(
        input_ids=batch.token_ids,
        attention_mask=batch.attention_mask,
        position_ids=batch.position_ids,
        logits_to_keep=1,
        use_cache=True,
    )


def score_after(model: nn.Module, batch: Batch, prompt: Any, answers: Sequence[Sequence[int]]) -> Scores:
    """Score many answers after one prompt that ``run_prompt`` has run, a few of similar length at a time."""
    order = sorted(range(len(answers)), key=lambda index: len(answers[index]))
    found: dict[int, Tensor] = {}
    for start in range(0, len(order), N_AT_ONCE):
        chosen = order[start : start + N_AT_ONCE]
        scores = _score_after(model, batch, prompt, [answers[index] for index in chosen])
        found |= dict(zip(chosen, scores, strict=True))
    return [found[index] for index in range(len(answers))]


def _score_after(model: nn.Module, batch: Batch, prompt: Any, answers: Sequence[Sequence[int]]) -> Scores:
    device = batch.token_ids.device
    rows = [torch.tensor(answer) for answer in answers]
    labels = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-100).to(device)
    tokens, n = labels.clamp_min(0)[:, :-1], len(rows)
    cache = copy.deepcopy(prompt.past_key_values)  # it grows with what is scored
    cache.batch_repeat_interleave(n)
    after = model(
        input_ids=tokens,
        attention_mask=torch.cat([batch.attention_mask.expand(n, -1), torch.ones_like(tokens)], dim=1),
        position_ids=batch.position_ids[:, -1:] + 1 + torch.arange(tokens.shape[1], device=device).expand(n, -1),
        past_key_values=cache,
    ).logits
    nats = _nats(torch.cat([prompt.logits[:, -1:].expand(n, -1, -1), after], dim=1), labels)
    return [row[: len(answer)] for row, answer in zip(nats, rows, strict=True)]


def _nats(logits: Tensor, labels: Tensor) -> Tensor:
    # Flat, so that each distribution is contiguous: over a strided dimension it takes three times as long.
    nats = -nn.functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none")
    return nats.view(labels.shape)
