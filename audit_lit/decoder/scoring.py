"""Log-probabilities of given answers under a causal language model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from audit_lit.decoder.prefix_cache import Injection, PrefixCache, group_by_prefix, no_injection, prefill
from audit_lit.decoder.prompt import Batch, Prompt

N_TOKENS = 640
"""Answer tokens that are scored at once: each takes as much memory as the vocabulary is large."""
Context = AbstractContextManager[None]
Scores = list[Float[Tensor, " answer"]]


def score(
    model: nn.Module, batch: Batch, injection: Callable[[Bool[Tensor, "batch pos"]], Context] = lambda _: nullcontext()
) -> Scores:
    """Return the log-probability in nats of each answer token of each row; differentiable.

    Args:
        model: A causal language model.
        batch: Prompts and answers.
        injection: Returns the context to run in, given where the slots are.
    """
    length = batch.token_ids.shape[1]
    with injection(batch.slots):
        logits = model(
            input_ids=batch.token_ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            # As indices, not as a number: a slice would stay strided and turn the head into many small products.
            logits_to_keep=torch.arange(length - batch.n_answer - 1, length - 1, device=batch.token_ids.device),
            use_cache=False,
        ).logits
    nats = _nats(logits, batch.token_ids[:, -batch.n_answer :])
    return [row[mask] for row, mask in zip(nats, batch.answer_mask, strict=True)]


@torch.no_grad()
def score_many(
    model: nn.Module,
    prompts: Sequence[Prompt],
    asked: Sequence[tuple[int, Sequence[int]]],
    pad: int,
    injection: Injection = no_injection,
) -> Scores:
    """Score any number of answers as ``score`` does: each prompt is computed once, and each answer to it.

    Args:
        model: A causal language model.
        prompts: What is asked.
        asked: The index of a prompt and the tokens of an answer, each.
        pad: Padding token.
        injection: See ``prefill.Writing``.
    """
    pairs = [(index, tuple(answer)) for index, answer in asked]
    found: dict[tuple[int, tuple[int, ...]], Tensor] = {}
    for part in group_by_prefix(prompts):
        read = prefill(model, [prompts[at] for at in part], pad, partial(injection, part))
        rest = sorted({pair for pair in pairs if pair[0] in part}, key=lambda pair: (len(pair[1]), pair), reverse=True)
        while rest:  # the longest of them first, so that little padding is computed
            n = max(1, N_TOKENS // len(rest[0][1]))
            some, rest = rest[:n], rest[n:]
            rows = read.rows([part.index(at) for at, _ in some])
            found |= zip(some, _score_after(model, rows, [answer for _, answer in some]), strict=True)
    return [found[pair] for pair in pairs]


def _score_after(model: nn.Module, read: PrefixCache, answers: Sequence[Sequence[int]]) -> Scores:
    rows = [torch.tensor(answer, device=read.mask.device) for answer in answers]
    labels = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-100)
    logits = read.logits[:, None]
    if labels.shape[1] > 1:
        logits = torch.cat([logits, read.extend(model, labels.clamp_min(0)[:, :-1])[0]], dim=1)
    nats = _nats(logits, labels)
    return [row[: len(answer)] for row, answer in zip(nats, rows, strict=True)]


def _nats(logits: Tensor, labels: Tensor) -> Tensor:
    # Flat, so that each distribution is contiguous: over a strided dimension it takes three times as long.
    nats = -nn.functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none")
    return nats.view(labels.shape)
