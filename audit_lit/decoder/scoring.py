"""Log-probabilities of given answers under a causal language model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from audit_lit.decoder.prefix_cache import Injection, PrefixCache, group_by_prefix, no_injection, prefill
from audit_lit.decoder.prompt import Batch, Prompt
from audit_lit.errors import ActivationError

MAX_TOKENS = 640
"""Number of answer tokens that are scored at once: each takes as much memory as the vocabulary is large."""
Context = AbstractContextManager[None]
Scores = list[Float[Tensor, " answer"]]


def score(
    model: nn.Module, batch: Batch, injection: Callable[[Bool[Tensor, "batch pos"]], Context] = lambda _: nullcontext()
) -> Scores:
    """Return the log-probability in nats of each answer token of each row; differentiable."""
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
    answers: Sequence[tuple[int, Sequence[int]]],
    pad: int,
    injection: Injection = no_injection,
) -> Scores:
    """Score any number of answers, each with the index of its prompt, as ``score`` does; the same pair is run once."""
    pairs = [(index, tuple(answer)) for index, answer in answers]
    scores: dict[tuple[int, tuple[int, ...]], Tensor] = {}
    for batch in group_by_prefix(prompts):
        cache = prefill(model, [prompts[index] for index in batch], pad, partial(injection, batch))
        for chunk in _chunks({pair for pair in pairs if pair[0] in batch}):
            rows = cache.rows([batch.index(index) for index, _ in chunk])
            scores |= zip(chunk, _score_after(model, rows, [answer for _, answer in chunk]), strict=True)
    if scores and bool(torch.cat(list(scores.values())).isnan().any()):
        raise ActivationError(
            "the decoder computes log-probabilities that are not numbers; expected finite ones. Check its weights, or "
            "load the models in float32."
        )
    return [scores[pair] for pair in pairs]


def _chunks(pairs: Collection[tuple[int, tuple[int, ...]]]) -> Iterator[list[tuple[int, tuple[int, ...]]]]:
    """Yield pairs of prompt and answer that are scored together, the longest answers first: that needs less padding."""
    remaining = sorted(pairs, key=lambda pair: (len(pair[1]), pair), reverse=True)
    while remaining:
        size = max(1, MAX_TOKENS // len(remaining[0][1]))
        yield remaining[:size]
        remaining = remaining[size:]


def _score_after(model: nn.Module, cache: PrefixCache, answers: Sequence[Sequence[int]]) -> Scores:
    rows = [torch.tensor(answer, device=cache.mask.device) for answer in answers]
    labels = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-100)
    logits = cache.logits[:, None]
    if labels.shape[1] > 1:
        logits = torch.cat([logits, cache.extend(model, labels.clamp_min(0)[:, :-1])[0]], dim=1)
    nats = _nats(logits, labels)
    return [row[: len(answer)] for row, answer in zip(nats, rows, strict=True)]


def _nats(logits: Tensor, labels: Tensor) -> Tensor:
    # Flat, so that each distribution is contiguous: over a strided dimension it takes three times as long.
    nats = -nn.functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none")
    return nats.view(labels.shape)
