"""Run prompts and keep their keys and values to continue from; a beginning that they share is computed once."""

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
from audit_lit.models.blocks import attends_to_a_window

BATCH_SIZE = 192
"""Number of prompts or texts that are computed together: more take more memory, and hardly less time."""
CALL_COST = 24
"""Cost of a call of the model beside its tokens, in tokens."""

Injection = Callable[[Sequence[int], Tensor], AbstractContextManager[None]]
"""Returns the context that fills slots, given the indices of the prompts that are run and a mask of their slots."""


def no_injection(_indices: Sequence[int], _slots: Tensor) -> AbstractContextManager[None]:
    """Leave the slots as they are."""
    return nullcontext()


@dataclass(frozen=True)
class PrefixCache:
    """The state of a model after its input, a row per prompt or text: ``logits`` and ``position`` of the last token."""

    logits: Float[Tensor, "batch vocab"]
    cache: Any
    mask: Int[Tensor, "batch pos"]
    position: Int[Tensor, " batch"]

    def rows(self, indices: Sequence[int]) -> PrefixCache:
        """Return a copy of the rows at ``indices``, in that order; an index may repeat."""
        selected = torch.as_tensor(list(indices))  # on the CPU, from where it fits layers on any device
        cache = copy.copy(self.cache)
        cache.layers = [copy.copy(layer) for layer in cache.layers]
        cache.batch_select_indices(selected)
        return PrefixCache(self.logits[selected], cache, self.mask[selected], self.position[selected])

    def extend(
        self, model: nn.Module, tokens: Int[Tensor, "batch new"]
    ) -> tuple[Float[Tensor, "batch new vocab"], PrefixCache]:
        """Run more tokens, and return the logits after each of them and the new state.

        The old state shares its keys and values with the new one, and must not be used any more.
        """
        mask = torch.cat([self.mask, torch.ones_like(tokens)], dim=1)
        position_ids = self.position[:, None] + torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
        settings = {"attention_mask": mask, "position_ids": position_ids, "past_key_values": self.cache}
        logits = model(input_ids=tokens, use_cache=True, **settings).logits
        return logits, replace(self, logits=logits[:, -1], mask=mask, position=position_ids[:, -1])


@torch.no_grad()
def prefill(
    model: nn.Module, prompts: Sequence[Prompt], pad: int, injection: Callable[[Tensor], AbstractContextManager[None]]
) -> PrefixCache:
    """Run prompts; what all begin with, up to the first slot, runs once if that saves more than a call costs."""
    device, n_shared = next(model.parameters()).device, _n_shared(prompts)
    if len({len(prompt.token_ids) for prompt in prompts}) > 1 and attends_to_a_window(model):
        n_shared = 0  # padding would stand between beginning and end, and a window of attention counts it
    heads, tails = zip(*(prompt.split(n_shared) for prompt in prompts), strict=True)
    batch = collate(tails, [[]] * len(tails), pad).to(device)
    mask, cache = batch.attention_mask, None
    if n_shared:
        head = collate(heads[:1], [[]], pad).to(device)
        cache = _run(model, head, head.attention_mask, None).past_key_values
        cache.batch_repeat_interleave(len(prompts))
        mask = torch.cat([head.attention_mask.expand(len(prompts), -1), mask], dim=1)
    with injection(batch.slots):
        output = _run(model, batch, mask, cache)
    return PrefixCache(output.logits[:, -1], output.past_key_values, mask, batch.position_ids[:, -1])


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
    """Return batches of indices: prompts that begin alike come together where that costs less than batches apart."""

    def cost(batch: Sequence[int]) -> int:
        """Return the cost of running a batch, in tokens."""
        members = [prompts[index] for index in batch]
        n_shared = _n_shared(members)
        longest = max(len(prompt.token_ids) for prompt in members)
        return CALL_COST * (1 + (n_shared > 0)) + n_shared + len(members) * (longest - n_shared)

    batches: list[list[int]] = []
    for index in sorted(range(len(prompts)), key=lambda index: (prompts[index].first, prompts[index].token_ids)):
        last = batches[-1] if batches else []
        if last and len(last) < BATCH_SIZE and cost([*last, index]) <= cost(last) + cost([index]):
            last.append(index)
        else:
            batches.append([index])
    return batches


def _n_shared(prompts: Sequence[Prompt]) -> int:
    """Return the number of tokens that all begin with, before any slot; 0 if computing them once does not pay."""
    if len({prompt.first for prompt in prompts}) > 1:
        return 0
    rows = [prompt.token_ids for prompt in prompts]
    n_equal = (*map(eq, min(rows), max(rows)), False).index(False)  # every row between the two begins like them
    n_shared = min(n_equal, *((*prompt.slots[:-1], True).index(True) for prompt in prompts))  # never the last token
    return n_shared if n_shared * (len(prompts) - 1) > CALL_COST else 0
