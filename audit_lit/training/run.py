"""From a recipe and a data folder to a decoder on disk."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from audit_lit.data.rows import Row, measurable
from audit_lit.data.splits import load_split, split_hash
from audit_lit.decoder.config import DecoderConfig
from audit_lit.decoder.decoder import Decoder
from audit_lit.decoder.files import TEXT_BASELINE
from audit_lit.evaluation.card_figures import measure
from audit_lit.evaluation.dialogs import hidden_dialogs, read_dialogs
from audit_lit.evaluation.evaluate import SCHEMA
from audit_lit.models.activations import Activations
from audit_lit.models.loading import load_target
from audit_lit.models.speedups import use_fast_lora
from audit_lit.models.target import Target
from audit_lit.training.card import write_card
from audit_lit.training.learners import new_decoder, new_text_baseline
from audit_lit.training.recipe import TrainingRecipe
from audit_lit.training.tracking import check_tracker
from audit_lit.training.trainer import LOG, Trainer

N_REFERENCE = 32
"""Number of reference dialogs. More make a claim's marginal surer, and a claim slower to score."""


def train(
    recipe: TrainingRecipe,
    data: Path | Sequence[Path],
    out: Path,
    *,
    device: str = "cpu",
    target: Target | None = None,
    tracker: str | None = None,
) -> Path:
    """Train a decoder and return its folder, ``out/decoder``; a killed run resumes from its last checkpoint.

    Args:
        recipe: The recipe of the run.
        data: Folder of LatentQA's layout, with ``train`` and ``dev``; others of known layouts may follow it.
        out: Run folder: log, checkpoint, decoder.
        device: Device to train on, as torch names it.
        target: The model to read, if it is loaded already.
        tracker: Tracker that gets the log beside its file: ``trackio`` or ``wandb``.

    Raises:
        RecipeError: If the recipe lacks questions.
        DataError: If the data are malformed, or too few for the recipe.
        TrainingError: If ``out`` belongs to another run, the tracker is missing, or the loss is not finite.
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
        text_recipe = recipe.for_text_baseline()
        decoder.text_baseline = new_text_baseline(text_recipe, target, digest)
        Trainer(text_recipe, target, decoder.text_baseline, out / TEXT_BASELINE, tracker=tracker).train(rows, dev_rows)
    if trainer.is_main:  # the other processes are done: measuring takes longer than they would be waited for
        publish(decoder, target, recipe, (rows, dev_rows), out)
    return out / "decoder"


def publish(
    decoder: Decoder, target: Target, recipe: TrainingRecipe, splits: tuple[list[Row], list[Row]], out: Path
) -> None:
    """Write a trained decoder to ``out/decoder``, measure it, and add its thresholds and its card."""
    (rows, dev_rows), folder = splits, out / "decoder"
    for learner in (decoder, decoder.text_baseline):
        if learner:
            use_fast_lora(learner.model.eval())
    decoder.reference = reference_activations(recipe, target, decoder.config, rows)
    decoder.config = decoder.config.changed(n_reference=len(decoder.reference))
    decoder.save(folder)
    results = measure(decoder, target, dev_rows, rows, out / "measured" / _digest(folder, dev_rows))
    decoder.config = calibrated(decoder.config, results)
    decoder.config.save(folder)
    write_card(folder, decoder, recipe, results, out / LOG)


def _digest(folder: Path, dev_rows: list[Row]) -> str:
    """Return a hash of what figures depend on, so that none are kept for other weights, data or definitions."""
    digest = hashlib.sha256(f"{SCHEMA} {dev_rows!r}".encode())
    for path in sorted(folder.rglob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def calibrated(config: DecoderConfig, results: dict[str, Any]) -> DecoderConfig:
    """Return the configuration with the threshold and the scales that were measured on the dev split."""
    slope, offset = results["calibration"]["claim_scale"]
    measured = {
        "lift_threshold": round(results["null"]["threshold_of_first_half"], 3),
        "claim_scale": (round(slope, 4), round(offset, 4)),
        "choice_scale": round(results["calibration"]["choice_scale"], 4),
    }
    return config.changed(**measured)


def reference_activations(
    recipe: TrainingRecipe, target: Target, config: DecoderConfig, rows: list[Row]
) -> Activations:
    """Return activations of training dialogs under different hidden prompts, which claims are compared with."""
    with_prompt = [row for row in rows if row.system and len(row.messages) == 2]
    rng = random.Random(recipe.seed)
    by_label = {row.label: row for row in rng.sample(with_prompt, len(with_prompt))}
    chosen = rng.sample(sorted(by_label.values(), key=lambda row: row.label), min(N_REFERENCE, len(by_label)))
    activations = read_dialogs(target, config, hidden_dialogs(chosen, repaired=True, seed=recipe.seed))
    return replace(activations, resid=activations.resid.bfloat16())
