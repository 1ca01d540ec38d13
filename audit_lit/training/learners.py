"""The decoder or text baseline that a recipe trains, before its training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from audit_lit.data.rows import Row
from audit_lit.decoder.config import DecoderConfig, WireFormat
from audit_lit.decoder.decoder import Decoder
from audit_lit.decoder.files import PLAIN_WRITES
from audit_lit.decoder.text_baseline import TextBaseline
from audit_lit.errors import TrainingError
from audit_lit.evaluation.dialogs import read_dialogs
from audit_lit.hooks import Project
from audit_lit.models.loading import share_weights, weights_fingerprint
from audit_lit.models.target import Target
from audit_lit.training.batches import STATISTICS_DIALOGS
from audit_lit.training.mixture import Mixture
from audit_lit.training.recipe import TrainingRecipe

if TYPE_CHECKING:
    from peft import PeftModel


def new_decoder(recipe: TrainingRecipe, target: Target, rows: list[Row], training_data: str) -> Decoder:
    """Return a decoder on the target's own base, sharing its weights: untrained, or as the recipe's start is trained.

    Raises:
        TrainingError: If the target has no Hugging Face base, or the recipe's start differs from it.
        DataError: If the data cannot serve the recipe.
    """
    config = config_of(recipe, target, training_data)
    model = _new_model(recipe, target)
    if recipe.start:
        return continue_from(Decoder.from_pretrained(recipe.start, target=target), model, config)
    plain = PLAIN_WRITES.get(recipe.wire.write)
    write = plain() if plain else projection(recipe, target, config, rows)
    return Decoder(model, target.tokenizer, config, write)


def new_text_baseline(recipe: TrainingRecipe, target: Target, training_data: str) -> TextBaseline:
    """Return an untrained text baseline on the target's own base, sharing its weights."""
    return TextBaseline(_new_model(recipe, target), target.tokenizer, config_of(recipe, target, training_data))


def _new_model(recipe: TrainingRecipe, target: Target) -> PeftModel:
    from peft import LoraConfig, get_peft_model

    if target.base is None:
        raise TrainingError("the target has no Hugging Face base to train a LoRA on; load it with load_target.")
    torch.manual_seed(recipe.seed)
    settings: dict[str, Any] = recipe.lora.model_dump() | {"target_modules": list(recipe.lora.target_modules)}
    model: PeftModel = get_peft_model(share_weights(target.base), LoraConfig(task_type="CAUSAL_LM", **settings))
    return model


def continue_from(start: Decoder, model: PeftModel, config: DecoderConfig) -> Decoder:
    """Return a decoder of a fresh model with the parameters of a trained one.

    Raises:
        TrainingError: If their wire formats or LoRA shapes differ.
    """
    different = [name for name in WireFormat.model_fields if getattr(start.config, name) != getattr(config, name)]
    old, new = _lora_parameters(start.model), _lora_parameters(model)
    if different or _shapes(old) != _shapes(new):
        raise TrainingError(
            f"the recipe starts from {start.config.name!r}, which differs in {', '.join(different) or 'its LoRA'}; "
            "expected the same 'wire' and 'lora' settings. Change them in the recipe, or leave out 'start'."
        )
    for name, parameter in new.items():
        parameter.data.copy_(old[name])
    examples = (start.config.examples or 0) + (config.examples or 0)
    config = config.changed(examples=examples)
    return Decoder(model, start.tokenizer, config, start.write, start.text_baseline)


def _lora_parameters(model: PeftModel) -> dict[str, torch.nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if "lora_" in name}


def _shapes(parameters: dict[str, torch.nn.Parameter]) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in parameters.items()}


def config_of(recipe: TrainingRecipe, target: Target, training_data: str) -> DecoderConfig:
    """Return the configuration of the decoder that a recipe trains."""
    return DecoderConfig(
        name=recipe.name,
        target=target.name,
        base=target.name,
        d_model=target.d_model,
        n_layers=target.n_layers,
        target_revision=target.revision,
        target_fingerprint=target.fingerprint(),
        base_fingerprint=weights_fingerprint(target.base) if target.base else None,
        lora_scaling=recipe.lora.lora_alpha / recipe.lora.r,
        training_data=training_data,
        examples=recipe.examples,
        reads=recipe.reads,
        licence=recipe.licence,
        **recipe.wire.model_dump(),
    )


def projection(recipe: TrainingRecipe, target: Target, config: DecoderConfig, rows: list[Row]) -> Project:
    """Return the ``project`` operation with the mean and spread of training activations at the read positions."""
    mixture = Mixture(rows, recipe)
    dialogs = [mixture.draw(-1 - index).dialog for index in range(STATISTICS_DIALOGS)]
    activations = read_dialogs(target, config, dialogs)
    per_layer = [activations.resid[:, layer][activations.mask].float() for layer in range(len(config.read_layers))]
    mean = torch.stack([values.mean(0) for values in per_layer])
    std = torch.stack([values.std(0) for values in per_layer]).clamp_min(1e-3)
    return Project(mean, std, target.d_model)
