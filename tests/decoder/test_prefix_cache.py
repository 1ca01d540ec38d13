"""Prompts that are run together: batches that pay, and logits equal to those of each prompt alone."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from helpers.models import tiny_llama
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_lit.decoder import prefix_cache
from audit_lit.decoder.prefix_cache import CALL_COST, group_by_prefix, prefill
from audit_lit.decoder.prompt import Prompt

HEAD = tuple(range(3, 43))


def prompt(*tail: int, head: tuple[int, ...] = HEAD, first: int = 0) -> Prompt:
    ids = (*head, *tail)
    return Prompt(ids, (False,) * len(ids), first)


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_llama().eval()


def run(model: Any, prompts: list[Prompt]) -> tuple[Any, list[int]]:
    """The cache after all prompts, and the number of tokens of each call."""
    sizes: list[int] = []
    hook = model.register_forward_pre_hook(
        lambda _module, _args, inputs: sizes.append(inputs["input_ids"].numel()), with_kwargs=True
    )
    cache = prefill(model, prompts, 0, lambda _slots: nullcontext())
    hook.remove()
    return cache, sizes


def test_a_shared_beginning_runs_once_and_changes_nothing(model: Any) -> None:
    prompts = [prompt(50), prompt(51, 52, 53), prompt(54, 55)]
    cache, sizes = run(model, prompts)
    assert sizes == [len(HEAD), 3 * 3]
    for row, one in enumerate(prompts):
        expected = model(torch.tensor([one.token_ids])).logits[0, -1]
        torch.testing.assert_close(cache.logits[row], expected, rtol=1e-4, atol=1e-4)


def test_a_beginning_is_not_shared_past_a_slot_or_at_other_positions(model: Any) -> None:
    slots = [Prompt(one.token_ids, (False,) * 5 + (True,) + (False,) * 35) for one in (prompt(50), prompt(51))]
    assert run(model, slots)[1] == [2 * 41]
    assert run(model, [prompt(50), prompt(51, first=3)])[1] == [2 * 41]


def test_rows_and_extension_equal_whole_inputs(model: Any) -> None:
    cache, _ = run(model, [prompt(50), prompt(51, 52, 53)])
    _, longer = cache.rows([1, 0, 1]).extend(model, torch.tensor([[60, 61], [62, 63], [64, 65]]))
    inputs = [(*HEAD, 51, 52, 53, 60, 61), (*HEAD, 50, 62, 63), (*HEAD, 51, 52, 53, 64, 65)]
    for row, ids in enumerate(inputs):
        torch.testing.assert_close(longer.logits[row], model(torch.tensor([ids])).logits[0, -1], rtol=1e-4, atol=1e-4)
    assert longer.position.tolist() == [len(ids) - 1 for ids in inputs]


def test_prompts_that_begin_alike_come_together() -> None:
    other = tuple(range(80, 180))
    prompts = [prompt(50), prompt(1, head=other), prompt(51), prompt(2, head=other), prompt(52)]
    assert sorted(map(sorted, group_by_prefix(prompts))) == [[0, 2, 4], [1, 3]]


def test_a_batch_has_a_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix_cache, "BATCH_SIZE", 2)
    assert [len(batch) for batch in group_by_prefix([prompt(index) for index in range(5)])] == [2, 2, 1]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.integers(3, 5), min_size=1, max_size=3 * CALL_COST), min_size=1, max_size=6))
def test_every_prompt_is_in_one_batch(rows: list[list[int]]) -> None:
    batches = group_by_prefix([Prompt(tuple(row), (False,) * len(row)) for row in rows])
    assert sorted(index for batch in batches for index in batch) == list(range(len(rows)))


@pytest.mark.parametrize(("window", "n_shared"), [(None, len(HEAD)), (16, 0)])
def test_no_beginning_is_shared_where_padding_after_it_would_count_in_a_window(
    window: int | None, n_shared: int
) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    shape = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    config = MistralConfig(
        **shape, num_attention_heads=4, num_key_value_heads=2, sliding_window=window, initializer_range=0.1
    )
    model = MistralForCausalLM(config).eval()
    unequal, equal = [prompt(50), prompt(51, 52, 53)], [prompt(50, 51), prompt(52, 53)]
    for prompts, shared in ((unequal, n_shared), (equal, len(HEAD))):
        cache, sizes = run(model, prompts)
        assert sizes[0] == (shared or 2 * (len(HEAD) + 3))
        for row, alone in enumerate(prompts):
            expected = model(torch.tensor([alone.token_ids])).logits[0, -1]
            torch.testing.assert_close(cache.logits[row], expected, rtol=1e-4, atol=1e-4)
