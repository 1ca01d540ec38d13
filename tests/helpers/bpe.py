"""Tokenizers that split and merge as Qwen3's and Llama-3's do, and tiny models with published-looking adapters."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

PATTERN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""How Qwen's tokenizers split text before they merge: a newline belongs to the punctuation before it."""
JOINED = (" ?", " ?\n", "?\n", " \n", "\n\n", ".\n", ":\n", "user", "Layer", " the", "he")
"""Pieces that are one token each."""
QWEN3 = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' and loop.last %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% if enable_thinking is false %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
LLAMA3 = (
    "{{ '<|begin_of_text|>' }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + "
    "m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
SPECIAL = {
    "qwen3": ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"),
    "llama3": ("<|end_of_text|>", "<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"),
}


def merging_tokenizer(family: str) -> Any:
    """Return a byte-level BPE tokenizer with the splits, special tokens and template of ``qwen3`` or ``llama3``."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = SPECIAL[family]
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges: dict[tuple[str, str], None] = {}
    for joined in (piece.replace(" ", "\u0120").replace("\n", "\u010a") for piece in JOINED):
        merges |= {(joined[:end], joined[end]): None for end in range(1, len(joined))}
    tokens = dict.fromkeys([*special, *symbols, *(left + right for left, right in merges)])
    raw = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, list(merges)))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(PATTERN), "isolated"), byte_level])
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(list(special))
    names = {"pad_token": special[0], "eos_token": special[2]}
    names |= {"bos_token": special[1]} if family == "llama3" else {}
    template = {"qwen3": QWEN3, "llama3": LLAMA3}[family]
    return PreTrainedTokenizerFast(tokenizer_object=raw, chat_template=template, **names)


def write_model(folder: Path, family: str) -> Any:
    """Write and return a random four-layer model of the family with its tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

    tokenizer = merging_tokenizer(family)
    shape: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "head_dim": 8}
    shape |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024}
    shape |= {"vocab_size": len(tokenizer), "initializer_range": 0.2, "tie_word_embeddings": False}
    shape |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    torch.manual_seed(len(family))
    model = (
        Qwen3ForCausalLM(Qwen3Config(**shape)) if family == "qwen3" else LlamaForCausalLM(LlamaConfig(**shape))
    ).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def write_adapter(folder: Path, model: Any, **settings: Any) -> None:
    """Write a random LoRA for a model, as peft saves it."""
    import copy

    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, init_lora_weights=False, **settings)
    get_peft_model(copy.deepcopy(model), lora).save_pretrained(str(folder))


def with_adapter(model: Any, folder: Path) -> Any:
    """Return a copy of a model with a LoRA of its linear layers added by hand: ``W + s B A``."""
    import copy

    from safetensors.torch import load_file

    settings = json.loads((folder / "adapter_config.json").read_text())
    changed, tensors = copy.deepcopy(model), load_file(folder / "adapter_model.safetensors")
    for name, down in tensors.items():
        if name.endswith("lora_A.weight"):
            module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            kind = module.rpartition(".")[2]
            rank = settings["rank_pattern"].get(kind, settings["r"])
            alpha = settings["alpha_pattern"].get(kind, settings["lora_alpha"])
            scaling = alpha / (math.sqrt(rank) if settings["use_rslora"] else rank)
            changed.get_submodule(module).weight.data += scaling * tensors[name.replace("_A.", "_B.")] @ down
    return changed
