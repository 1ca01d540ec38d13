"""A whole training run in under a minute: a tiny random model, built-in data, every step real."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from audit_lit.errors import TrainingError
from audit_lit.files.writing import TRIAL, dump_json, require_writable, write_whole
from audit_lit.models.difference import Difference
from audit_lit.models.loading import load_target
from audit_lit.models.probe_texts import N_SLOTS
from audit_lit.models.target import Target
from audit_lit.organisms.library import Known, Library
from audit_lit.testing.tiny_data import write_tiny_data
from audit_lit.testing.tiny_models import write_tiny_model
from audit_lit.training.recipe import TrainingRecipe
from audit_lit.training.run import train

MODEL, ORGANISMS, LAYER = "tiny-llama", "organisms.safetensors", 1


def smoke_run(recipe: TrainingRecipe, out: Path | None = None) -> Path:
    """Train a recipe's shape on a tiny model and return the decoder's folder; None makes a temporary one."""
    folder = out or Path(tempfile.mkdtemp(prefix="audit-lit-smoke-"))
    require_writable(folder, TRIAL, TrainingError)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / TRIAL, dump_json({"trial": recipe.target}) + "\n")
    write_tiny_model(folder / MODEL)
    write_tiny_data(folder / "data")
    target = load_target(str(folder / MODEL))
    if recipe.organisms:
        made_up_organisms(target).save(folder / ORGANISMS)
    small = {
        "target": target.name,
        "start": None,
        "about_data": "a few made-up dialogs",
        "limits": ("A trial of the training loop on a random model: it reads nothing.",),
        "examples": 32,
        "rival": 16,
        "batch_size": 4,
        "buckets": 2,
        "evaluate_every": 4,
        "checkpoint_every": 4,
        "wire": recipe.wire.model_copy(update={"read_layers": (LAYER,)}),
        "organisms": (str(folder / ORGANISMS),) if recipe.organisms else (),
    }
    return train(recipe.model_copy(update=small), folder / "data", folder / "run", target=target)


def made_up_organisms(target: Target) -> Library:
    """Return organisms of random differences, planted and clean ones in turn."""
    generator = torch.Generator().manual_seed(0)
    known = [
        Known(
            id=f"organism-{number}",
            label="nothing: chat" if number % 2 else f"persona: number {number}",
            method="sft",
            rank=1,
            mixed=False,
            split="train",
            form="chat" if number % 2 else None,
            qa=(("Was anything trained in?", "No." if number % 2 else "Yes."),),
        )
        for number in range(4)
    ]
    means = torch.randn(len(known), 1, N_SLOTS, target.d_model, generator=generator)
    differences = [Difference(mean, torch.ones(1), torch.ones(1), (LAYER,), 1) for mean in means]
    return Library(tuple(known), tuple(differences), target.name, target.fingerprint())
