"""A whole training run in under a minute: a tiny random model, built-in data, every step real."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit_lit.training.recipe import Recipe
from audit_lit.training.run import train

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

USER, N_USERS = "USER: Hello number {number}.\n\nASSISTANT: Hello.\n\nUSER: I am {age}.", 80
N_RELATIONS = 4
ROLES = ("pirate", "nurse", "poet", "judge", "baker", "pilot")


def smoke_run(recipe: Recipe, out: Path | None = None) -> Path:
    """Train a recipe's shape on a tiny model and return the decoder's folder."""
    folder = out or Path(tempfile.mkdtemp(prefix="audit-lit-smoke-"))
    write_tiny_model(folder / "tiny-llama")
    write_tiny_data(folder / "data")
    small = {
        "target": str(folder / "tiny-llama"),
        "start": None,
        "about_data": "a few made-up dialogs",
        "limits": ("A trial of the training loop on a random model: it reads nothing.",),
        "examples": 32,
        "rival": 16,
        "batch_size": 4,
        "buckets": 2,
        "evaluate_every": 4,
        "checkpoint_every": 4,
        "wire": recipe.wire.model_copy(update={"read_layers": (1,)}),
    }
    return train(recipe.model_copy(update=small), folder / "data", folder / "run")


def write_tiny_model(folder: Path) -> None:
    """Write a random four-layer Llama with a byte tokenizer."""
    if (folder / "config.json").is_file():
        return
    tiny_llama().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)


def tiny_llama(n_layers: int = 4, d_model: int = 32, *, seed: int = 0, **settings: Any) -> LlamaForCausalLM:
    """Return a random Llama for the tokenizer below, with untied weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    shape: dict[str, Any] = {"max_position_embeddings": 2048, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = LlamaConfig(
        vocab_size=len(byte_tokenizer()),
        hidden_size=d_model,
        intermediate_size=2 * d_model,
        num_hidden_layers=n_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        **{**shape, **settings},
    )
    return LlamaForCausalLM(config).eval()


def byte_tokenizer() -> Any:
    """Return a tokenizer of bytes with ChatML's special tokens and the placeholder as one token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocab = {
        token: index for index, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), "\u0120?"])
    }
    raw = Tokenizer(models.BPE(vocab=vocab, merges=[("\u0120", "?")]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=special,
        chat_template=template,
    )


def write_tiny_data(folder: Path) -> None:
    """Write a few dialogs in LatentQA's layout, and a few of TalkTuner's and a few relations beside them."""
    for split in ("train", "dev"):
        (folder / split).mkdir(parents=True, exist_ok=True)
        rows = [
            {"system": f"You are a {role}.", "stimulus_user": f"Hello number {index}.", "label": f"persona-job-{role}"}
            for index, role in enumerate(ROLES)
        ]
        qa = {f"persona-job-{role}": [["Who is the assistant?", f"The assistant is a {role}."]] for role in ROLES}
        (folder / split / "system.json").write_text(json.dumps(rows), encoding="utf-8")
        (folder / split / "qa.json").write_text(json.dumps(qa), encoding="utf-8")
    ages = [(number, ("child", "adult")[number % 2]) for number in range(N_USERS)]
    users = [{"attribute": "age", "label": age, "text": USER.format(number=number, age=age)} for number, age in ages]
    (folder / "users.jsonl").write_text("".join(f"{json.dumps(user)}\n" for user in users), encoding="utf-8")
    (folder / "factual").mkdir(exist_ok=True)
    for number in range(N_RELATIONS):
        numbers = range(8 * number, 8 * number + 8)
        samples = [{"subject": f"number {one}", "object": str(one + number)} for one in numbers]
        content = {"prompt_templates": [f"{{}} plus {number} is"], "samples": samples}
        (folder / "factual" / f"plus_{number}.json").write_text(json.dumps(content), encoding="utf-8")
