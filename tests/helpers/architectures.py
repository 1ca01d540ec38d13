"""Tiny random models of the architectures that are promised to work, with chat templates of different kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from helpers.chat_templates import NO_SYSTEM_ROLE, TEMPLATES, THINKING
from helpers.models import byte_tokenizer

N_LAYERS, D_MODEL, WINDOW = 4, 32, 16
GROUPED = {"num_key_value_heads": 2, "head_dim": 8}
SLIDING = ["sliding_attention", "full_attention"] * (N_LAYERS // 2)
GEMMA = {**GROUPED, "query_pre_attn_scalar": 8, "sliding_window": WINDOW, "layer_types": SLIDING}

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 2, "tie_word_embeddings": False},
    "qwen2": {"num_key_value_heads": 2, "tie_word_embeddings": True},
    "qwen3": {**GROUPED, "tie_word_embeddings": True},
    "gemma2": {**GEMMA, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0},
    "gemma3_text": GEMMA,
    "mistral": {"num_key_value_heads": 2, "sliding_window": WINDOW, "tie_word_embeddings": False},
    "phi3": {"num_key_value_heads": 2, "sliding_window": WINDOW},
    "olmo2": {"num_key_value_heads": 2},
    "gpt_neox": {"rotary_pct": 0.25, "tie_word_embeddings": False},
    "gpt2": {"tie_word_embeddings": True},
}
"""Settings of each architecture beside the shape, by transformers' name for it."""
FUSED = {"c_attn", "query_key_value", "qkv_proj", "gate_up_proj"}
"""Layers that TransformerLens splits, so that a LoRA on them would not act in a target."""

CHATML, THINKS = TEMPLATES["chatml"], THINKING["keeps the last, written anew"]
CHAT = {
    "llama": TEMPLATES["llama3, trims"],
    "qwen3": THINKS,
    "gemma2": NO_SYSTEM_ROLE,
    "gemma3_text": TEMPLATES["gemma, system inside the user turn"],
    "mistral": TEMPLATES["llama2, no generation prompt"],
}
"""Chat templates; those of the others are ChatML."""


def tiny_model(architecture: str) -> Any:
    """A random model of four layers for the byte tokenizer."""
    torch.manual_seed(0)
    shape = {"hidden_size": D_MODEL, "intermediate_size": 2 * D_MODEL, "num_hidden_layers": N_LAYERS}
    shape |= {"num_attention_heads": 4, "max_position_embeddings": 2048, "initializer_range": 0.1}
    tokens = {"vocab_size": len(byte_tokenizer()), "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = CONFIG_MAPPING[architecture](**shape, **tokens, **ARCHITECTURES[architecture])
    return AutoModelForCausalLM.from_config(config).eval()


def write_model(architecture: str, folder: Path) -> Path:
    """Write the model and its tokenizer."""
    tiny_model(architecture).save_pretrained(folder)
    byte_tokenizer(CHAT.get(architecture, CHATML)).save_pretrained(folder)
    return folder
