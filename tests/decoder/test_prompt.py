"""The decoder's prompt in every published format, and the protocol file that names the format."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from helpers.chat_templates import llama3_tokenizer, tokenizer_of
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_lit import DecoderConfig
from audit_lit.chat.rendering import render
from audit_lit.decoder import formats
from audit_lit.decoder.prompt import Prompt, build_prompt, collate
from audit_lit.errors import DecoderConfigError

SIZE: dict[str, Any] = {"target": "t", "d_model": 8, "n_layers": 36}
LIT = formats.lit_llama3("lit", target="t")
AO = formats.activation_oracle("ao", **SIZE)
MULTI = formats.activation_oracle_multilayer("multi", **SIZE)
V3 = formats.activation_oracle_v3("v3", **SIZE)
USER, ASSISTANT = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
U, R = (f"<|start_header_id|>{role}<|end_header_id|>\n\n" for role in ("user", "reflect"))


def tokenizer_for(config: DecoderConfig) -> Any:
    return llama3_tokenizer() if config is LIT else tokenizer_of("chatml")


@pytest.mark.parametrize(
    ("protocol", "layers", "text"),
    [
        (
            LIT,
            (15,),
            f"<|begin_of_text|>{U}? ? ?<|eot_id|>{R}Sure, I've analyzed the assistant.<|eot_id|>{U}Why?<|eot_id|>{R}",
        ),
        (AO, (18,), f"{USER}Layer: 18\n ? ? ? \nWhy?{ASSISTANT}"),
        (MULTI, (9, 18, 27), f"{USER}Layer: 9\n ? ? ?\nLayer: 18\n ? ? ?\nLayer: 27\n ? ? ? \nWhy?{ASSISTANT}"),
        (V3, (9, 18, 27), f"{USER}L9: ? ? ? L18: ? ? ? L27: ? ? ?\nWhy?{ASSISTANT}"),
    ],
    ids=["lit", "ao", "ao-multilayer", "ao-v3"],
)
def test_a_published_format_is_this_text_with_these_slots(config: DecoderConfig, layers: Any, text: str) -> None:
    tokenizer = tokenizer_for(config)
    prompt = build_prompt(config, tokenizer, " Why? ", 3)
    assert config.read_layers == layers
    assert tokenizer.decode(prompt.token_ids) == text
    assert list(prompt.token_ids) == tokenizer(text, add_special_tokens=False)["input_ids"]
    slots = [tokenizer.decode([token]) for token, slot in zip(prompt.token_ids, prompt.slots, strict=True) if slot]
    assert slots == (["?", " ?", " ?"] if config is LIT else [" ?"] * 3 * len(layers))
    assert sum("?" in tokenizer.decode([token]) for token in prompt.token_ids) == len(slots) + 1  # the question's own


def test_the_registry_has_the_published_ids_and_how_they_write() -> None:
    known = {name: (p.write, p.write_layer, p.read_layers, p.d_model) for name, p in formats.PUBLISHED.items()}
    assert known == {
        "aypan17/latentqa_llama-3-8b-instruct": ("replace", 0, (15,), 4096),
        "adamkarvonen/checkpoints_latentqa_cls_past_lens_addition_Qwen3-8B": ("add", 1, (18,), 4096),
    }
    assert LIT.shift_positions
    assert LIT.answer_end == "<|eot_id|>"


@pytest.mark.parametrize("protocol", [LIT, AO, MULTI, V3], ids=lambda p: p.name)
@settings(deadline=None, max_examples=25)
@given(
    question=st.text("a ?{}\n\u00e9", min_size=1, max_size=12).filter(str.strip)
    | st.sampled_from(["? ? ?", "{sections}", "{question} {slots} {layer}", "Layer: 18\n ? ?", "{0} \\1 \\g<1>"]),
    n_slots=st.integers(1, 5),
)
def test_no_question_is_mistaken_for_slots_or_fields(config: DecoderConfig, question: str, n_slots: int) -> None:
    tokenizer = tokenizer_for(config)
    prompt = build_prompt(config, tokenizer, question, n_slots)
    plain = build_prompt(config, tokenizer, "x", n_slots)
    text, before = tokenizer.decode(prompt.token_ids), tokenizer.decode(plain.token_ids).rindex("x")
    assert sum(prompt.slots) == n_slots * len(config.read_layers)
    assert text[before:].startswith(question.strip())
    assert [at for at, slot in enumerate(prompt.slots) if slot] == [at for at, slot in enumerate(plain.slots) if slot]


@pytest.mark.parametrize("question", ["", " \n"])
def test_an_empty_question_is_refused(question: str) -> None:
    with pytest.raises(DecoderConfigError, match="the question is empty"):
        build_prompt(AO, tokenizer_for(AO), question, 1)


@pytest.mark.parametrize("placeholder", [" x", "ab", " ??", "\u00e9"])
def test_a_placeholder_that_is_not_one_token_is_refused(placeholder: str) -> None:
    with pytest.raises(DecoderConfigError, match="is not one token in this decoder's tokenizer"):
        build_prompt(dataclasses.replace(AO, placeholder=placeholder), tokenizer_for(AO), "Why?", 2)


def test_a_placeholder_that_merges_with_its_neighbour_is_refused() -> None:
    wire = dataclasses.replace(AO, placeholder="<", section="Layer.{slots}")
    with pytest.raises(DecoderConfigError, match="is not one token"):
        build_prompt(wire, tokenizer_of("chatml", merges=True), "Why?", 1)


def test_a_template_that_drops_the_slots_is_refused() -> None:
    tokenizer = tokenizer_of("{% for m in messages %}{{ m['role'] }}{% endfor %}")
    with pytest.raises(DecoderConfigError, match="drops or repeats the slots"):
        build_prompt(AO, tokenizer, "Why?", 2)


@pytest.mark.parametrize(
    ("n_edge", "reveal", "expected"),
    [
        (3, "user", ["<|im_start|>", "u", "s", "!", "n", "t", "\n"]),
        (1, "user", ["<|im_start|>", "!", "\n"]),
        (99, "assistant", ["<|im_start|>", *"assistant\nOk", "<|im_end|>", "\n"]),
        (2, "assistant", ["<|im_start|>", "a", "k", "<|im_end|>", "\n"]),
        (1, "last:4", ["a", "\n"]),
        (1, [-1, -2, -3, -4], ["a", "n", "t", "\n"]),
    ],
)
def test_edges_are_the_first_and_last_tokens_and_the_last_of_the_text(n_edge: int, reveal: Any, expected: Any) -> None:
    tokenizer = tokenizer_of("chatml")
    turns = [("user", "Hi"), ("assistant", "Ok"), ("user", "Who are you!")]
    rendered = render([{"role": role, "content": content} for role, content in turns], tokenizer)
    places = dataclasses.replace(AO, positions="edges", n_edge=n_edge).select(rendered, reveal)
    assert list(places) == sorted(set(places))
    assert [tokenizer.decode([rendered.token_ids[at]]) for at in places] == expected


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


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"prompt": "{sections}"}, "must contain {question} exactly once"),
        ({"prompt": "{sections}{question}{question}"}, "must contain {question} exactly once"),
        ({"section": "Layer: {layer}"}, "must contain {slots} exactly once"),
        ({"write": "multiply"}, "write='multiply'"),
        ({"positions": "middle"}, "positions='middle'"),
        ({"read_layers": ()}, "must name some of 0-35"),
        ({"read_layers": (36,)}, r"read_layers=\[36\] must name some of 0-35"),
        ({"n_edge": 0}, "n_edge=0"),
    ],
)
def test_a_format_that_cannot_be_followed_is_refused(changes: dict[str, Any], error: str) -> None:
    values = {field.name: getattr(AO, field.name) for field in dataclasses.fields(AO)} | changes
    bare = object.__new__(DecoderConfig)  # as users build it, without type checks
    for name, value in values.items():
        object.__setattr__(bare, name, value)
    with pytest.raises(DecoderConfigError, match=error):
        bare.__post_init__()


@pytest.mark.parametrize("protocol", [LIT, AO, MULTI, V3], ids=lambda p: p.name)
def test_the_file_reads_back_the_same(tmp_path: Path, config: DecoderConfig) -> None:
    config.save(tmp_path)
    assert DecoderConfig.load(tmp_path) == config


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"read_layer": [1]}, "unknown field 'read_layer'. Did you mean 'read_layers'"),
        ({"zzz": 1}, r"unknown field 'zzz'\.$"),
        ({"format": 2}, "is not of format 1"),
        ({"prompt": None}, "lacks a field"),
        ({"read_layers": None}, "lacks a field"),
        ({"read_layers": 3}, "wrong type"),
        (None, "could not be read"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path: Path, change: dict[str, Any] | None, error: str) -> None:
    AO.save(tmp_path)
    path = tmp_path / "protocol.json"
    content = {**json.loads(path.read_text()), **(change or {})}
    absent = [key for key, value in (change or {}).items() if value is None]
    path.write_text(json.dumps({key: value for key, value in content.items() if key not in absent}) if change else "{")
    with pytest.raises(DecoderConfigError, match=error):
        DecoderConfig.load(tmp_path)
