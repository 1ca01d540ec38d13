"""Blocks and linear layers, by whatever names an architecture has for them."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.architectures import FUSED, tiny_model
from helpers.models import byte_tokenizer, tiny_llama
from torch import nn

from audit_lit.errors import DecoderMismatch, TargetError
from audit_lit.models.blocks import context_length, decoder_blocks, lora_modules
from audit_lit.models.loading import bridged_layers
from audit_lit.models.wrapping import as_target


def with_lora(architecture: str, module: str) -> Any:
    from peft import LoraConfig, get_peft_model

    return get_peft_model(tiny_model(architecture), LoraConfig(r=2, target_modules=[module], init_lora_weights=False))


def test_a_model_without_a_list_of_blocks_is_refused() -> None:
    model = tiny_llama()
    assert decoder_blocks(model) is model.model.layers
    headless = nn.Module()
    headless.config = model.config
    with pytest.raises(DecoderMismatch, match="no list of 4 blocks in a Module; expected a causal language model"):
        decoder_blocks(headless)


def test_the_blocks_of_a_model_of_images_and_text_are_those_of_its_language_model() -> None:
    """Its part for images comes first, and has as many blocks."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    text = tiny_model("gemma3_text").config.to_dict()
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "image_size": 8, "patch_size": 4}
    vision = {**shape, "num_hidden_layers": text["num_hidden_layers"]}
    model = Gemma3ForConditionalGeneration(Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4))
    assert decoder_blocks(model) is model.model.language_model.layers
    assert context_length(model) == text["max_position_embeddings"]
    assert "q_proj" in lora_modules(model) and "fc1" not in lora_modules(model)


def test_a_lora_goes_on_all_linear_layers_or_on_those_named() -> None:
    assert lora_modules(tiny_model("gpt2")) == ["c_attn", "c_fc", "c_proj"]
    assert lora_modules(tiny_llama(), ["v_proj", "q_proj"]) == ["v_proj", "q_proj"]
    with pytest.raises(TargetError, match=r"on 'q_proj', which no block of this Phi3.*qkv_proj.*'all-linear'"):
        lora_modules(tiny_model("phi3"), ["q_proj", "o_proj"])


@pytest.mark.parametrize(
    ("architecture", "module"), [("gpt2", "c_attn"), ("phi3", "qkv_proj"), ("phi3", "gate_up_proj")]
)
def test_a_lora_that_transformer_lens_would_pass_over_is_refused(architecture: str, module: str) -> None:
    with pytest.raises(TargetError, match=f"LoRA on {module}, which TransformerLens splits.*merge_and_unload"):
        as_target(with_lora(architecture, module), byte_tokenizer(), "tiny")


def test_a_lora_on_whole_layers_acts() -> None:
    import torch

    tokens = torch.arange(3, 20)[None]
    model = with_lora("gpt2", "c_fc").eval()
    target = as_target(model, byte_tokenizer(), "tiny")
    with torch.no_grad():
        got = target.model(tokens, attention_mask=torch.ones_like(tokens))
        torch.testing.assert_close(got, model(tokens).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "phi3"])
def test_bridged_layers_are_all_but_the_fused_ones(architecture: str) -> None:
    model = tiny_model(architecture)
    assert bridged_layers(model, byte_tokenizer()) == sorted(set(lora_modules(model)) - FUSED)
