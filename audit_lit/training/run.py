"""From a recipe and a data folder to a decoder on disk."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from audit_lit.activations import Activations
from audit_lit.data import Row, measurable
from audit_lit.datasets import load_split, split_hash
from audit_lit.decoder import Decoder
from audit_lit.decoder_files import PLAIN_WRITES, RIVAL
from audit_lit.errors import RecipeError
from audit_lit.evaluation import SCHEMA
from audit_lit.evaluation.dialogs import hidden_dialogs, read_dialogs
from audit_lit.hooks import Project
from audit_lit.lean_lora import make_lean
from audit_lit.protocol import Protocol
from audit_lit.target import Target, load_target, share, weights_fingerprint
from audit_lit.training.batches import STATISTICS_DIALOGS
from audit_lit.training.card import write_card
from audit_lit.training.measure import measure
from audit_lit.training.recipe import Recipe, Wire
from audit_lit.training.sources import Mixture
from audit_lit.training.tracking import check_tracker
from audit_lit.training.trainer import LOG, Trainer

if TYPE_CHECKING:
    from peft import PeftModel

N_REFERENCE = 32
"""More make a claim's marginal surer, and a claim slower to weigh."""


def train(
    recipe: Recipe,
    data: Path | Sequence[Path],
    out: Path,
    *,
    device: str = "cpu",
    target: Target | None = None,
    tracker: str | None = None,
) -> Path:
    """Train a decoder and return its folder, ``out/decoder``; a killed run goes on from its last checkpoint.

    Args:
        recipe: What to do.
        data: Folder of LatentQA's layout, with ``train`` and ``dev``; others of known layouts may follow it.
        out: Run folder: log, checkpoint, decoder.
        device: Where to train.
        target: The model to read, if it is loaded already.
        tracker: Where the log goes beside its file: ``trackio`` or ``wandb``.

    Raises:
        RecipeError: If recipe or data are malformed, ``out`` belongs to another recipe, or the tracker is missing.
    """
    check_tracker(tracker)
    folders = [data] if isinstance(data, Path) else list(data)
    rows, dev_rows = load_split(folders, "train"), load_split(folders, "dev")
    measurable(rows, "the train split")
    measurable(dev_rows, "the dev split")  # before hours of training
    target = target or load_target(recipe.target, device=device)
    digest = split_hash(folders, "train")
    decoder = new_decoder(recipe, target, rows, digest)
    trainer = Trainer(recipe, target, decoder, out, tracker=tracker)
    trainer.train(rows, dev_rows)
    if recipe.rival:
        for_rival = recipe.for_rival()
        decoder.rival = new_decoder(for_rival, target, rows, digest)
        Trainer(for_rival, target, decoder.rival, out / RIVAL, tracker=tracker).train(rows, dev_rows)
    if trainer.is_main:  # the other processes are done: measuring takes longer than they would be waited for
        publish(decoder, target, recipe, (rows, dev_rows), out)
    return out / "decoder"


def publish(decoder: Decoder, target: Target, recipe: Recipe, splits: tuple[list[Row], list[Row]], out: Path) -> None:
    """Write a trained decoder to ``out/decoder``, measure it, and add its thresholds and its card."""
    (rows, dev_rows), folder = splits, out / "decoder"
    for one in (decoder, decoder.rival):
        if one:
            make_lean(one.model.eval())
    if decoder.protocol.reads == "activations":
        decoder.reference = reference(recipe, target, decoder.protocol, rows)
        decoder.protocol = replace(decoder.protocol, n_reference=len(decoder.reference))
    decoder.save(folder)
    if decoder.protocol.reads == "activations":
        results = measure(decoder, target, dev_rows, rows, out / "measured" / _digest(folder, dev_rows))
        decoder.protocol = calibrated(decoder.protocol, results)
        decoder.protocol.save(folder)
        write_card(folder, decoder, recipe, results, out / LOG)


def _digest(folder: Path, dev_rows: list[Row]) -> str:
    """Return what figures depend on, so that none are kept for other weights, data or definitions."""
    digest = hashlib.sha256(f"{SCHEMA} {dev_rows!r}".encode())
    for path in sorted(folder.rglob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def calibrated(protocol: Protocol, results: dict[str, Any]) -> Protocol:
    """Return the protocol with what was measured on the dev split: the threshold of answers, the scale of claims."""
    slope, offset = results["calibration"]["claim_scale"]
    return replace(
        protocol,
        lift_threshold=round(results["null"]["threshold_of_first_half"], 3),
        claim_scale=(round(slope, 4), round(offset, 4)),
        choice_scale=round(results["calibration"]["choice_scale"], 4),
    )


def reference(recipe: Recipe, target: Target, protocol: Protocol, rows: list[Row]) -> Activations:
    """Return activations of training dialogs under as many different hidden prompts, what claims are compared with."""
    system = [row for row in rows if row.system and len(row.messages) == 2]
    rng = random.Random(recipe.seed)
    labels = {row.label: row for row in rng.sample(system, len(system))}
    chosen = rng.sample(sorted(labels.values(), key=lambda row: row.label), min(N_REFERENCE, len(labels)))
    found = read_dialogs(target, protocol, hidden_dialogs(chosen, repaired=True, seed=recipe.seed))
    return replace(found, resid=found.resid.bfloat16())


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
    if recipe.start:
        return continue_from(Decoder.from_pretrained(recipe.start, target=target), model, protocol)
    plain = PLAIN_WRITES.get(recipe.wire.write)
    write = plain() if plain else projection(recipe, target, protocol, rows)
    return Decoder(model, target.tokenizer, protocol, write)


def continue_from(start: Decoder, model: PeftModel, protocol: Protocol) -> Decoder:
    """Return a decoder of a fresh model with the parameters of a trained one.

    Raises:
        RecipeError: If their wire formats or LoRA shapes differ.
    """
    wrong = [name for name in Wire.model_fields if getattr(start.protocol, name) != getattr(protocol, name)]
    old, new = ({name: p for name, p in one.named_parameters() if "lora_" in name} for one in (start.model, model))
    if wrong or {name: p.shape for name, p in old.items()} != {name: p.shape for name, p in new.items()}:
        raise RecipeError(
            f"the recipe starts from {start.protocol.name!r}, which differs in {', '.join(wrong) or 'its LoRA'}; "
            "expected the same 'wire' and 'lora' settings. Change them in the recipe, or leave out 'start'."
        )
    for name, parameter in new.items():
        parameter.data.copy_(old[name])
    examples = (start.protocol.examples or 0) + (protocol.examples or 0)
    return Decoder(model, start.tokenizer, replace(protocol, examples=examples), start.write, start.rival)


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
        reads=recipe.reads,
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
