"""Published decoders in miniature: a LoRA or a whole model on a tiny Llama, with the description that it brings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from helpers.chat_templates import TEMPLATES, message
from helpers.hooked_models import D_MODEL, N_LAYERS, residuals, target_of
from helpers.models import byte_tokenizer, tiny_llama

MARKER = "\u320e"
DIALOG = [message("user", "Hi"), message("assistant", "Ahoy"), message("user", "Who are you?")]


def marker_tokenizer() -> Any:
    """The byte tokenizer with a marker as one token."""
    tokenizer = byte_tokenizer(TEMPLATES["chatml"])
    tokenizer.add_tokens([MARKER])
    return tokenizer


def marker_target() -> Any:
    """A tiny target with an embedding for the marker."""
    return target_of(marker_tokenizer())


def save_lora(folder: Path, target: Any, *, modules: Any = "all-linear", **settings: Any) -> Path:
    """Write a LoRA on the target's base whose effect is not zero, and return its folder."""
    from peft import LoraConfig, get_peft_model

    from audit_lit.models.loading import share_weights

    torch.manual_seed(1)
    lora = LoraConfig(**{"r": 4, "lora_alpha": 8, **settings}, target_modules=modules, init_lora_weights=False)
    model = get_peft_model(share_weights(target.base), lora)
    model.peft_config["default"].base_model_name_or_path = target.name
    model.save_pretrained(str(folder), save_embedding_layers=False)
    return folder


def save_whole(folder: Path) -> Path:
    """Write a whole model with a tokenizer, other than the target's, and return its folder."""
    tokenizer = marker_tokenizer()
    model = tiny_llama(N_LAYERS, D_MODEL, seed=3)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def trigram(tokenizer: Any) -> tuple[int, int, int]:
    """Ids of ``>``, the marker and ``<``: what stands in a prompt with tags around the marker."""
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in (">", MARKER, "<"))


def nla_meta(tokenizer: Any, **changes: Any) -> dict[str, Any]:
    """The content of an ``nla_meta.yaml``."""
    left, marker, right = trigram(tokenizer)
    tokens = {"injection_char": MARKER, "injection_token_id": marker}
    neighbours = {"injection_left_neighbor_id": left, "injection_right_neighbor_id": right}
    extraction = {"layer_index": 2, "injection_scale": 150.0}
    template = {"av": "Here is the vector:\n<concept>{injection_char}</concept>\nExplain."}
    whole = {"kind": "nla_model", "schema_version": 2, "d_model": D_MODEL, "extraction": extraction}
    return {**whole, "tokens": tokens | neighbours, "prompt_templates": template, **changes}


def ao_config(**changes: Any) -> dict[str, Any]:
    """The content of an ``ao_config.json`` for four blocks."""
    layers = {"layer_combinations": [[25], [50], [75]], "act_layer_combinations": [[1], [2], [3]]}
    written = {"hook_onto_layer": 1, "special_token": " ?", "steering_coefficient": 1.0}
    template = {"prefix_template": "Layer: {layer}\\n{special_token} * {num_positions} \\n"}
    lora = {"lora_r": 4, "lora_alpha": 8, "use_rslora": False}
    more = {"activation_collection_batch_size": 128, "train_batch_size": 16, "save_dir": "x"}
    return {"schema_version": 1, "model_name": "tiny", **layers, **written, **template, **lora, **more, **changes}


def describe(folder: Path, name: str, content: Any) -> None:
    """Write a description; JSON is YAML, too."""
    (folder / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def last_residual(target: Any, layer: int) -> Tensor:
    """The residual after a block at the last token of the dialog's prompt, by plain PyTorch."""
    text = target.tokenizer.apply_chat_template(DIALOG, tokenize=False, add_generation_prompt=True)
    ids = target.tokenizer(text, add_special_tokens=False)["input_ids"]
    return residuals(target.base, target.base.model.layers, torch.tensor([ids]))[layer][0, -1]
