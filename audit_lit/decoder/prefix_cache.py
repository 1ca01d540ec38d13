"""Prompts that a model has read, to go on from: what they begin with is computed once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from operator import eq
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from audit_lit.decoder.prompt import Batch, Prompt, collate

N_AT_ONCE = 192
"""Prompts or texts that are computed together: more take more memory and hardly less time."""
CALL = 24
"""What a call costs beside its tokens, in tokens."""

Injection = Callable[[Sequence[int], Tensor], AbstractContextManager[None]]
"""Returns the context that fills slots, given the indices of the prompts and where the slots are in what is run."""


def no_injection(_index: Sequence[int], _slots: Tensor) -> AbstractContextManager[None]:
    """Leave the slots as they are."""
    return nullcontext()


@dataclass(frozen=True)
class PrefixCache:
    """What a model has read.

    Attributes:
        logits: After the last token of each row.
        cache: Keys and values; grows when it is extended.
        mask: 1 at tokens, 0 at padding.
        position: Of the last token of each row.
    """

    logits: Float[Tensor, "batch vocab"]
    cache: Any
    mask: Int[Tensor, "batch pos"]
    position: Int[Tensor, " batch"]

    def rows(self, index: Sequence[int]) -> PrefixCache:
        """Return a copy of the rows at ``index``, in that order; an index may repeat."""
        at = torch.as_tensor(list(index), device=self.mask.device)
        cache = copy.copy(self.cache)
        cache.layers = [copy.copy(layer) for layer in cache.layers]
        cache.batch_select_indices(at)
        return PrefixCache(self.logits[at], cache, self.mask[at], self.position[at])

    def extend(
        self, model: nn.Module, tokens: Int[Tensor, "batch new"]
    ) -> tuple[Float[Tensor, "batch new vocab"], PrefixCache]:
        """Read more tokens; returns the logits after each, and all that is read now. Only the result is usable then."""
        mask = torch.cat([self.mask, torch.ones_like(tokens)], dim=1)
        new = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
        position_ids = self.position[:, None] + new
        settings = {"attention_mask": mask, "position_ids": position_ids, "past_key_values": self.cache}
        logits = model(input_ids=tokens, use_cache=True, **settings).logits
        return logits, replace(self, logits=logits[:, -1], mask=mask, position=position_ids[:, -1])


@torch.no_grad()
def prefill(
    model: nn.Module, prompts: Sequence[Prompt], pad: int, injection: Callable[[Tensor], AbstractContextManager[None]]
) -> PrefixCache:
    """Run prompts: what all begin with once, up to the first slot, if that saves more than a call costs."""
    device, n = next(model.parameters()).device, _n_shared(prompts)
    heads, rests = zip(*(prompt.split(n) for prompt in prompts), strict=True)
    batch = collate(rests, [[]] * len(rests), pad).to(device)
    mask, cache = batch.attention_mask, None
    if n:
        head = collate(heads[:1], [[]], pad).to(device)
        cache = _run(model, head, head.attention_mask, None).past_key_values
        cache.batch_repeat_interleave(len(prompts))
        mask = torch.cat([head.attention_mask.expand(len(prompts), -1), mask], dim=1)
    with injection(batch.slots):
        out = _run(model, batch, mask, cache)
    return PrefixCache(out.logits[:, -1], out.past_key_values, mask, batch.position_ids[:, -1])


def _run(model: nn.Module, batch: Batch, mask: Int[Tensor, "batch pos"], cache: Any) -> Any:
    return model(
        input_ids=batch.token_ids,
        attention_mask=mask,
        position_ids=batch.position_ids,
        past_key_values=cache,
        use_cache=True,
        # As an index, not as a number: a slice would stay strided and turn the head into many small products.
        logits_to_keep=torch.tensor([batch.token_ids.shape[1] - 1], device=mask.device),
    )


def group_by_prefix(prompts: Sequence[Prompt]) -> list[list[int]]:
    """Deal prompts into batches: those that begin alike together, where that costs less than a batch of their own."""
    found: list[list[int]] = []
    for at in sorted(range(len(prompts)), key=lambda at: (prompts[at].first, prompts[at].token_ids)):
        some = [*found[-1], at] if found else []
        if 0 < len(some) <= N_AT_ONCE and _cost(prompts, some) <= _cost(prompts, found[-1]) + _cost(prompts, [at]):
            found[-1] = some
        else:
            found.append([at])
    return found


def _cost(prompts: Sequence[Prompt], index: Sequence[int]) -> int:
    some = [prompts[at] for at in index]
    n = _n_shared(some)
    return CALL * (1 + (n > 0)) + n + len(some) * (max(len(prompt.token_ids) for prompt in some) - n)


def _n_shared(prompts: Sequence[Prompt]) -> int:
    """Return how many tokens all begin with, before any slot; 0 if computing them once is not worth a call."""
    if len({prompt.first for prompt in prompts}) > 1:
        return 0
    ids = [prompt.token_ids for prompt in prompts]
    same = (*map(eq, min(ids), max(ids)), False).index(False)  # whatever is between them begins so, too
    n = min(same, *(prompt.n_plain for prompt in prompts))
    return n if n * (len(prompts) - 1) > CALL else 0
