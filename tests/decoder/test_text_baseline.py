"""The rival that reads the visible text is the base model, in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

ANSWERS = ["yes", "no, never"]
TEXTS, QUESTIONS = ["user: Hi", "user: Good day to you"], ["What?", "Why is that so?"]


def expected_scores(target: Any, text: str, question: str, answer: str) -> torch.Tensor:
    from audit_lit.chat.rendering import render
    from audit_lit.decoder.text_baseline import text_prompt

    dialog = [{"role": "user", "content": text_prompt(text, question)}]
    ids = target.tokenizer(render(dialog, target.tokenizer).text + answer + "<|im_end|>")["input_ids"]
    with torch.no_grad():
        logits = target.base(torch.tensor([ids])).logits[0].log_softmax(-1)
    n = len(answer) + 1  # a byte each, and the end
    return logits[range(len(ids) - n - 1, len(ids) - 1), ids[-n:]]


def test_scores_are_the_base_models(target: Any, make_decoder: Callable[..., Any]) -> None:
    from audit_lit.decoder.decoder import text_baselines

    baseline = text_baselines(make_decoder())["text_only"]
    for found, *what in zip(baseline.logprob(TEXTS, QUESTIONS, ANSWERS), TEXTS, QUESTIONS, ANSWERS, strict=True):
        torch.testing.assert_close(found, expected_scores(target, *what), rtol=1e-4, atol=1e-4)
    for found, answer in zip(baseline.logprob(TEXTS[1:] * 2, QUESTIONS[1:] * 2, ANSWERS), ANSWERS, strict=True):
        torch.testing.assert_close(found, expected_scores(target, TEXTS[1], QUESTIONS[1], answer), rtol=1e-4, atol=1e-4)


def test_answers_are_the_base_models(target: Any, make_decoder: Callable[..., Any]) -> None:
    from audit_lit.chat.rendering import render
    from audit_lit.decoder.decoder import text_baselines
    from audit_lit.decoder.text_baseline import text_prompt

    found = text_baselines(make_decoder())["text_only"].answer(TEXTS, QUESTIONS, max_new_tokens=6)
    for text, question, answer in zip(TEXTS, QUESTIONS, found, strict=True):
        prompt = render([{"role": "user", "content": text_prompt(text, question)}], target.tokenizer).text
        ids = target.tokenizer(prompt, return_tensors="pt")["input_ids"]
        out = target.base.generate(ids, max_new_tokens=6, do_sample=False, pad_token_id=0)
        assert answer == target.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip()
