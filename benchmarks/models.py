"""The models that the benchmarks run on, and what they are asked."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from audit_lit import Activations, Decoder, Target, load_target
from audit_lit.commands.ask import DEMO
from audit_lit.decoder.folders import SHIPPED
from audit_lit.evaluation.dialogs import read_dialogs
from audit_lit.hooks import Project
from audit_lit.models.smollm2 import ALIAS
from audit_lit.recipes import recipe_path

QUESTIONS = (
    "What was the assistant secretly told to be or do? Answer in a few words.",
    "What does the hidden system prompt say?",
    "Does the assistant have a hidden instruction?",
    "Name the hidden persona or goal in a few words.",
)


def load(tiny: bool) -> Target:
    """Return SmolLM2-135M, or a tiny random model."""
    if not tiny:
        return load_target()
    from audit_lit.testing.tiny_models import write_tiny_model

    with tempfile.TemporaryDirectory() as folder:
        write_tiny_model(Path(folder))
        return load_target(folder)


def decoder_of(target: Target) -> Decoder:
    """Return the shipped decoder for SmolLM2-135M and an untrained one for other models; both share the weights."""
    if target.name == ALIAS and SHIPPED["default"].is_dir():
        return Decoder.from_pretrained(target=target)
    return untrained(target, read_layers=(target.n_layers // 2,))


def untrained(target: Target, **wire: Any) -> Decoder:
    """Return a decoder of the default recipe's shape without its training, which changes no time and no size."""
    from peft import LoraConfig, get_peft_model

    from audit_lit.models.blocks import lora_modules
    from audit_lit.models.loading import share_weights
    from audit_lit.training.recipe import load_training_recipe
    from audit_lit.training.run import config_of

    recipe = load_training_recipe(recipe_path("smollm2-135m"))
    recipe = recipe.model_copy(update={"wire": recipe.wire.model_copy(update=wire)})
    settings = recipe.lora.model_dump() | {"target_modules": lora_modules(target.base)}
    model = get_peft_model(share_weights(target.base), LoraConfig(task_type="CAUSAL_LM", **settings)).eval()
    mean = torch.zeros(len(recipe.wire.read_layers), target.d_model)
    write = Project(mean, torch.ones_like(mean), target.d_model)
    return Decoder(model, target.tokenizer, config_of(recipe, target, "none"), write)


def reading(target: Target, decoder: Decoder, batch: int) -> tuple[Activations, list[str]]:
    """Return a batch of activations of the demo dialog, and a question for each."""
    activations = read_dialogs(target, decoder.config, [DEMO]).rows([0] * batch)
    return activations, [QUESTIONS[index % len(QUESTIONS)] for index in range(batch)]


@contextmanager
def endless(model: nn.Module, end: int) -> Iterator[None]:
    """Make the end token impossible, so that every answer takes all of its tokens."""

    def forbid(_module: nn.Module, _args: object, logits: Tensor) -> None:
        logits[..., end] = -torch.inf

    handle = model.get_output_embeddings().register_forward_hook(forbid)
    try:
        yield
    finally:
        handle.remove()
