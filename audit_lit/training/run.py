"""From a recipe and a data folder to a decoder on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from audit_lit.data import Row, data_hash, load_rows
from audit_lit.decoder import Decoder
from audit_lit.decoder_files import PLAIN_WRITES
from audit_lit.errors import RecipeError
from audit_lit.evaluation import MIN_ROWS, usable
from audit_lit.evaluation.dialogs import read_dialogs
from audit_lit.hooks import Project
from audit_lit.protocol import Protocol
from audit_lit.target import Target, load_target, share, weights_fingerprint
from audit_lit.training.card import write_card
from audit_lit.training.measure import measure
from audit_lit.training.recipe import Recipe, Wire
from audit_lit.training.sources import Mixture
from audit_lit.training.trainer import LOG, Trainer

STATISTICS_DIALOGS = 256


def train(recipe: Recipe, data: Path, out: Path, *, device: str = "cpu", target: Target | None = None) -> Path:
    """Train a decoder and return its folder, ``out/decoder``; a killed run goes on from its last checkpoint.

    Args:
        recipe: What to do.
        data: Folder of LatentQA's layout, with ``train`` and ``dev``.
        out: Run folder: log, checkpoint, decoder.
        device: Where to train.
        target: The model to read, if it is loaded already.

    Raises:
        RecipeError: If recipe or data are malformed, or ``out`` belongs to another recipe.
    """
    rows, dev_rows = load_rows(data / "train"), load_rows(data / "dev")
    if (n := len(usable(dev_rows))) < MIN_ROWS:
        raise RecipeError(
            f"{data / 'dev'} has {n} hidden system prompts with a user line; expected {MIN_ROWS} or more."
        )
    target = target or load_target(recipe.target, device=device)
    decoder = new_decoder(recipe, target, rows, data_hash(data / "train"))
    trainer = Trainer(recipe, target, decoder, out)
    trainer.train(rows, dev_rows)
    return publish(decoder, target, recipe, dev_rows, out)


def publish(decoder: Decoder, target: Target, recipe: Recipe, dev_rows: list[Row], out: Path) -> Path:
    """Measure a trained decoder and write it with its card to ``out/decoder``; return that folder."""
    decoder.model.eval()
    results = measure(decoder, target, dev_rows, seed=recipe.seed)
    decoder.protocol = replace(decoder.protocol, lift_threshold=round(results["null"]["threshold_of_first_half"], 3))
    folder = out / "decoder"
    decoder.save(folder)
    write_card(folder, decoder, recipe, results, out / LOG)
    return folder


def new_decoder(recipe: Recipe, target: Target, rows: list[Row], training_data: str) -> Decoder:
    """Return an untrained decoder on the target's own base, sharing its weights."""
    from peft import LoraConfig, get_peft_model

    protocol = protocol_of(recipe, target, training_data)
    torch.manual_seed(recipe.seed)
    settings: dict[str, Any] = recipe.lora.model_dump()
    settings["target_modules"] = list(recipe.lora.target_modules)
    if target.base is None:
        raise ValueError("the target came without its Hugging Face base; load it with load_target.")
    model = get_peft_model(share(target.base), LoraConfig(task_type="CAUSAL_LM", **settings))
    plain = PLAIN_WRITES.get(recipe.wire.write)
    write = plain() if plain else projection(recipe, target, protocol, rows)
    decoder = Decoder(model, target.tokenizer, protocol, write)
    if recipe.start:
        continue_from(Decoder.from_pretrained(recipe.start, target=target), decoder)
    return decoder


def continue_from(start: Decoder, decoder: Decoder) -> None:
    """Copy the parameters of a trained decoder into a fresh one.

    Raises:
        RecipeError: If their wire formats or LoRA shapes differ.
    """
    wrong = [name for name in Wire.model_fields if getattr(start.protocol, name) != getattr(decoder.protocol, name)]
    old, new = ({name: p for name, p in one.model.named_parameters() if "lora_" in name} for one in (start, decoder))
    if wrong or {name: p.shape for name, p in old.items()} != {name: p.shape for name, p in new.items()}:
        raise RecipeError(
            f"the recipe starts from {start.protocol.name!r}, which differs in {', '.join(wrong) or 'its LoRA'}; "
            "expected the same 'wire' and 'lora' settings. Change them in the recipe, or leave out 'start'."
        )
    for name, parameter in new.items():
        parameter.data.copy_(old[name])
    decoder.write.load_state_dict(start.write.state_dict())
    examples = (start.protocol.examples or 0) + (decoder.protocol.examples or 0)
    decoder.protocol = replace(decoder.protocol, examples=examples)


def protocol_of(recipe: Recipe, target: Target, training_data: str) -> Protocol:
    """Return the wire format of the decoder that a recipe trains."""
    return Protocol(
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
        licence=recipe.licence,
        **recipe.wire.model_dump(),
    )


def projection(recipe: Recipe, target: Target, protocol: Protocol, rows: list[Row]) -> Project:
    """Return the ``project`` operation with the mean and spread of training activations at the read positions."""
    mixture = Mixture(rows, recipe)
    dialogs = [mixture.draw(-1 - index).dialog for index in range(STATISTICS_DIALOGS)]
    activations = read_dialogs(target, protocol, dialogs)
    per_layer = [activations.resid[:, layer][activations.mask].float() for layer in range(len(protocol.read_layers))]
    mean = torch.stack([values.mean(0) for values in per_layer])
    std = torch.stack([values.std(0) for values in per_layer]).clamp_min(1e-3)
    return Project(mean, std, target.d_model)
