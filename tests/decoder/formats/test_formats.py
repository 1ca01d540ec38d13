"""The published formats: the prompt of each, word for word, and where each writes."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.chat_templates import llama3_tokenizer, tokenizer_of
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_lit import DecoderConfig
from audit_lit.decoder import formats
from audit_lit.decoder.prompt import build_prompt

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
    ("config", "layers", "text"),
    [
        (
            LIT,
            (15,),
            f"<|begin_of_text|>{U}? ? ?<|eot_id|>{R}Sure, I've analyzed the assistant.<|eot_id|>{U}Why?<|eot_id|>{R}",
        ),
        (AO, (18,), f"{USER}Layer: 18\n ? ? ? \nWhy?{ASSISTANT}"),
        (MULTI, (9, 18, 27), f"{USER}Layer: 9\n ? ? ? \nLayer: 18\n ? ? ? \nLayer: 27\n ? ? ? \nWhy?{ASSISTANT}"),
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


def test_oracles_take_layers_by_number_all_at_once_or_one_of_several() -> None:
    best = formats.activation_oracle_multilayer("ao-v3-best", **SIZE, layers=range(21, 26))
    assert (best.read_layers, best.layer_choice) == ((21, 22, 23, 24, 25), "all")
    one = formats.activation_oracle("ao", **SIZE, depths=(50, 25, 75), layer_choice="one")
    assert one.for_layer(27).read_layers == (27,) and one.read_layers == (18, 9, 27)
    assert formats.activation_oracle("ao", **SIZE, layers=[27]).read_layers == (27,)


def test_the_module_has_its_former_name_too() -> None:
    from audit_lit import registry

    assert registry is formats


def test_the_registry_has_the_published_ids_and_how_they_write() -> None:
    known = {
        name: (config.write, config.write_layer, config.read_layers, config.d_model)
        for name, config in formats.PUBLISHED.items()
        if config.takes_question
    }
    assert known == {
        "aypan17/latentqa_llama-3-8b-instruct": ("replace", 0, (15,), 4096),
        "adamkarvonen/checkpoints_latentqa_cls_past_lens_addition_Qwen3-8B": ("add", 1, (18,), 4096),
    }
    assert LIT.shift_positions
    assert LIT.answer_end == "<|eot_id|>"


@pytest.mark.parametrize("config", [LIT, AO, MULTI, V3], ids=lambda config: config.name)
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
