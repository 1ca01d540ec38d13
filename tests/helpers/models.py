"""Tiny random models, a byte tokenizer and a decoder's configuration, built from settings: fast, offline, seeded."""

from __future__ import annotations

from typing import Any

CHAT_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nDefault.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokenizer(chat_template: str = CHAT_TEMPLATE) -> Any:
    """Bytes, special tokens, and ``?`` and `` ?`` as one token each."""
    from audit_lit.testing.tiny_models import byte_tokenizer as build

    tokenizer = build()
    tokenizer.chat_template = chat_template
    tokenizer.padding_side = "left"
    return tokenizer


def tiny_llama(n_layers: int = 4, d_model: int = 32, seed: int = 0, **settings: Any) -> Any:
    """A random Llama with well-spread weights."""
    from audit_lit.testing.tiny_models import tiny_llama as build

    return build(n_layers, d_model, seed=seed, max_position_embeddings=1024, initializer_range=0.1, **settings)


def make_config(target: Any, **changes: Any) -> Any:
    """A configuration for the tiny target, with norm-matched addition."""
    from audit_lit import DecoderConfig

    settings: dict[str, Any] = {
        "name": "tiny",
        "target": target.name,
        "base": target.name,
        "d_model": target.d_model,
        "n_layers": target.n_layers,
        "read_layers": (2,),
        "prompt": "<|im_start|>user\n{question}\n{sections}<|im_end|>\n<|im_start|>assistant\n",
        "section": "{slots}",
        "placeholder": " ?",
        "write": "add",
        "write_layer": 0,
        "chat": False,
    }
    return DecoderConfig(**{**settings, **changes})
