"""The decoder's prompt: what is refused, and how prompts and answers stand in one batch."""

from __future__ import annotations

import pytest
from helpers.bpe import merging_tokenizer
from helpers.chat_templates import tokenizer_of

from audit_lit.decoder import formats
from audit_lit.decoder.prompt import Prompt, build_prompt, collate
from audit_lit.errors import DecoderConfigError, QuestionError

AO = formats.activation_oracle("ao", target="t", d_model=8, n_layers=36)


@pytest.mark.parametrize("question", ["", " \n"])
def test_an_empty_question_is_refused(question: str) -> None:
    with pytest.raises(QuestionError, match="the question is empty"):
        build_prompt(AO, tokenizer_of("chatml"), question, 1)


@pytest.mark.parametrize("placeholder", [" x", "ab", " ??", "\u00e9"])
def test_a_placeholder_that_is_not_one_token_is_refused(placeholder: str) -> None:
    with pytest.raises(DecoderConfigError, match="is not one token in this decoder's tokenizer"):
        build_prompt(AO.model_copy(update={"placeholder": placeholder}), tokenizer_of("chatml"), "Why?", 2)


def test_a_placeholder_that_merges_with_its_neighbour_is_refused() -> None:
    config = AO.model_copy(update={"placeholder": "<", "section": "Layer.{slots}"})
    with pytest.raises(DecoderConfigError, match="is not one token"):
        build_prompt(config, tokenizer_of("chatml", merges=True), "Why?", 1)


@pytest.mark.parametrize("family", ["qwen3", "llama3"])
def test_a_placeholder_that_merges_with_a_newline_is_refused_unless_the_text_is_split(family: str) -> None:
    tokenizer, merging = merging_tokenizer(family), AO.changed(section="L{layer}:{slots}\n")
    assert len(tokenizer(" ?\n", add_special_tokens=False)["input_ids"]) == 1
    with pytest.raises(DecoderConfigError, match="is not one token"):
        build_prompt(merging, tokenizer, "Why?", 2)
    prompt = build_prompt(merging.changed(split_at_slots=True), tokenizer, "Why?", 2)
    shown = [tokenizer.decode([token]) for token, slot in zip(prompt.token_ids, prompt.slots, strict=True) if slot]
    assert shown == [" ?", " ?"] and "L18: ? ?\nWhy?" in tokenizer.decode(prompt.token_ids)
    with pytest.raises(DecoderConfigError, match="is not one token"):
        build_prompt(merging.changed(split_at_slots=True, placeholder=" ab"), tokenizer, "Why?", 2)


def test_a_template_that_drops_the_slots_is_refused() -> None:
    tokenizer = tokenizer_of("{% for m in messages %}{{ m['role'] }}{% endfor %}")
    with pytest.raises(DecoderConfigError, match="drops or repeats the slots"):
        build_prompt(AO, tokenizer, "Why?", 2)


def test_prompts_end_in_one_column_and_answers_start_in_the_next() -> None:
    prompts = [Prompt((5, 6, 7), (False, True, True), first=10), Prompt((8,), (True,), first=20)]
    batch = collate(prompts, [[1], [2, 3]], pad=0)
    assert batch.token_ids.tolist() == [[5, 6, 7, 1, 0], [0, 0, 8, 2, 3]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 0], [0, 0, 1, 1, 1]]
    assert batch.slots.int().tolist() == [[0, 1, 1, 0, 0], [0, 0, 1, 0, 0]]
    assert batch.answer_mask.int().tolist() == [[1, 0], [1, 1]]
    real = batch.attention_mask.bool()
    assert batch.position_ids[0][real[0]].tolist() == [10, 11, 12, 13]
    assert batch.position_ids[1][real[1]].tolist() == [20, 21, 22]
    assert prompts[0].split(1) == (Prompt((5,), (False,), first=10), Prompt((6, 7), (True, True), first=11))
