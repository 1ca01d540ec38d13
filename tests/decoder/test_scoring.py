"""Scores of many answers equal those of each alone, whatever is computed together."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.models import tiny_llama

from audit_lit.decoder import scoring
from audit_lit.decoder.prompt import Prompt, collate
from audit_lit.decoder.scoring import score, score_many

PROMPTS = [Prompt(ids, (False,) * len(ids)) for ids in ((5, 6, 7, 8), (9, 10), (5, 6, 11))]
ANSWERS = [(0, (20, 21)), (2, (22,)), (0, (23, 24, 25, 26)), (1, (20, 21)), (0, (20, 21)), (2, (27, 28, 29))]


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_llama().eval()


@pytest.mark.parametrize("max_tokens", [1, 5, 640])
def test_many_answers_score_as_one_by_one(model: Any, monkeypatch: pytest.MonkeyPatch, max_tokens: int) -> None:
    monkeypatch.setattr(scoring, "MAX_TOKENS", max_tokens)
    scores = score_many(model, PROMPTS, ANSWERS, 0)
    for (index, answer), nats in zip(ANSWERS, scores, strict=True):
        logits = model(torch.tensor([[*PROMPTS[index].token_ids, *answer]])).logits[0, -len(answer) - 1 : -1]
        expected = logits.log_softmax(-1)[range(len(answer)), list(answer)]
        torch.testing.assert_close(nats, expected, rtol=1e-4, atol=1e-4)
        (alone,) = score(model, collate([PROMPTS[index]], [answer], 0))
        torch.testing.assert_close(nats, alone, rtol=1e-4, atol=1e-4)
        assert alone.requires_grad and not nats.requires_grad


def test_an_answer_that_occurs_twice_is_computed_once(model: Any) -> None:
    rows: list[int] = []
    hook = model.register_forward_pre_hook(
        lambda _module, _args, inputs: rows.append(len(inputs["input_ids"])), with_kwargs=True
    )
    first, second = score_many(model, PROMPTS, [(1, (20, 21))] * 2, 0)
    hook.remove()
    assert first is second and rows[-1] == 1
