"""Texts that a model writes: several after one prompt, finished ones left out, whatever else is in the batch."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from helpers.models import tiny_llama
from transformers import GenerationConfig

from audit_lit.decoder.generation import generate
from audit_lit.decoder.prompt import Prompt
from audit_lit.models.generation import Sampling

PROMPTS = [(5, 6, 7, 8), (9, 10), (5, 6, 11), (30,), (31, 32), (33, 5)]


def generated(model: Any, prompts: Any = PROMPTS, end: int = -1, **changes: Any) -> Any:
    kept = {name: changes.pop(name) for name in ("top_p", "top_k") if name in changes}
    sampling = Sampling(**{"max_new_tokens": 12, **changes})
    return generate(model, [Prompt(ids, (False,) * len(ids)) for ids in prompts], sampling, ends=[end], pad=0, **kept)


@pytest.mark.parametrize("n", [3, 6])  # of six, the one that ends stays in the batch
def test_finished_texts_end_and_are_left_out_if_they_are_many(n: int) -> None:
    model, sizes = tiny_llama().eval(), []
    whole = [text for (text,) in generated(model, PROMPTS[:n])]
    end = whole[0][3]
    model.register_forward_pre_hook(
        lambda _module, _args, given: sizes.append(len(given["input_ids"])), with_kwargs=True
    )
    found = [text for (text,) in generated(model, PROMPTS[:n], end=end)]
    assert found == [text[: text.index(end)] if end in text else text for text in whole]
    assert len(found[0]) <= 3 and (sizes[0], sizes[-1]) == (n, {3: 2, 6: 6}[n])


def test_the_likeliest_text_stands_beside_samples_of_the_same_prompt() -> None:
    model = tiny_llama().eval()
    found = generated(model, samples=2)
    assert [texts[:1] for texts in found] == generated(model)
    assert found == generated(model, samples=2)
    assert found[0][1] != found[0][2] and found != generated(model, samples=2, seed=1)


def test_finished_samples_are_left_out_as_well() -> None:
    model = tiny_llama().eval()
    ends = [text[2] for texts in generated(model, PROMPTS[:3], samples=2) for text in texts[1:]]
    for end in set(ends):
        for texts in generated(model, PROMPTS[:3], end=end, samples=2, max_new_tokens=8):
            assert all(end not in text and len(text) <= 8 for text in texts)


def test_samples_follow_the_models_shares() -> None:
    model = tiny_llama().eval()
    with torch.no_grad():
        shares = model(torch.tensor([PROMPTS[0]])).logits[0, -1].softmax(-1)
    likeliest = int(shares.argmax())
    (texts,) = generated(model, PROMPTS[:1], max_new_tokens=1, temperature=1.0, samples=399)
    found = sum(text == [likeliest] for text in texts) / 400
    assert abs(found - float(shares[likeliest])) < 0.08


@pytest.mark.parametrize(
    ("kept", "n_kept"), [({"top_k": 3}, 3), ({"top_p": 0.2}, None), ({"top_k": 9, "top_p": 0.5}, None)]
)
def test_samples_are_among_the_likeliest_tokens(kept: dict[str, Any], n_kept: int | None) -> None:
    model = tiny_llama().eval()
    with torch.no_grad():
        logits = model(torch.tensor([PROMPTS[0]])).logits[0, -1]
    ranked = logits.sort(descending=True).indices[: kept.get("top_k", len(logits))]
    shares = logits[ranked].softmax(-1)
    before = shares.cumsum(-1) - shares  # a token stays if those before it have less than top_p together
    allowed = set(ranked[before < kept.get("top_p", 1.0)].tolist())
    (texts,) = generated(model, PROMPTS[:1], max_new_tokens=1, temperature=1.0, samples=299, **kept)
    assert {text[0] for text in texts} <= allowed and len(allowed) == (n_kept or len(allowed)) < len(logits)
    assert len({text[0] for text in texts}) > 1
    assert generated(model, max_new_tokens=3, **kept) == generated(model, max_new_tokens=3)  # the likeliest text


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<a>\n x y \n</a>", "x y"),
        ("Well: <a>x</a> and more", "x"),
        ("<a>x, cut sh", "x, cut sh"),
        ("no tags", "no tags"),
        ("<a></a>", ""),
    ],
)
def test_an_answer_is_what_stands_between_the_marks_of_the_template(text: str, answer: str) -> None:
    from audit_lit.decoder.generation import answer_in

    assert answer_in(text, "<a>\n{answer}\n</a>") == answer
    assert answer_in(text, "{answer}") == text.strip()


def test_answers_end_at_any_token_that_the_models_own_settings_name(make_decoder: Any) -> None:
    """As on Gemma, whose chat template closes a turn with another token than the tokenizer's end token."""
    decoder = make_decoder()
    tokenizer = decoder.tokenizer = copy.deepcopy(decoder.tokenizer)
    turn_end, text_end = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    tokenizer.eos_token = "<|endoftext|>"
    assert decoder.answer_ids("Hi")[-1] == text_end
    decoder = make_decoder(chat=True, prompt="{question}\n{sections}")
    decoder.tokenizer = tokenizer
    decoder.model.get_base_model().generation_config = GenerationConfig(eos_token_id=[text_end, turn_end])
    assert decoder.answer_ids("Hi")[-1] == turn_end  # what the template closes an answer with
    whole = generated(decoder.model, PROMPTS[:1])[0][0]
    prompt = [Prompt(PROMPTS[0], (False,) * len(PROMPTS[0]))]
    for end in whole[2:4]:
        decoder = make_decoder()
        decoder.model.get_base_model().generation_config = GenerationConfig(eos_token_id=[end])
        ((text,),) = decoder.generate(prompt, Sampling(max_new_tokens=12))
        assert text == decoder.tokenizer.decode(whole[: whole.index(end)], skip_special_tokens=True).strip()
