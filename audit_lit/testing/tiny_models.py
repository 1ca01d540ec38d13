"""Tiny random models and a byte tokenizer, for tests and for trials of a training run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM


def write_tiny_model(folder: Path) -> None:
    """Write a random four-layer Llama with a byte tokenizer."""
    if not (folder / "config.json").is_file():
        tiny_llama().save_pretrained(folder)
        byte_tokenizer().save_pretrained(folder)


def tiny_llama(n_layers: int = 4, d_model: int = 32, *, seed: int = 0, **settings: Any) -> LlamaForCausalLM:
    """Return a random Llama for the tokenizer below, with untied weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    shape: dict[str, Any] = {"hidden_size": d_model, "intermediate_size": 2 * d_model, "num_hidden_layers": n_layers}
    shape |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048}
    tokens = {"vocab_size": len(byte_tokenizer()), "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return LlamaForCausalLM(LlamaConfig(**{**shape, **tokens, **settings})).eval()


def byte_tokenizer() -> Any:
    """Return a tokenizer of bytes with ChatML's special tokens and the placeholder as one token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokens = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), "\u0120?"]
    vocab = {token: index for index, token in enumerate(tokens)}
    raw = Tokenizer(models.BPE(vocab=vocab, merges=[("\u0120", "?")]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    ends = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, additional_special_tokens=special, chat_template=template, **ends
    )
