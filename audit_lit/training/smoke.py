"""A whole training run in under a minute: a tiny random model, built-in data, every step real."""

from __future__ import annotations

import tempfile
from pathlib import Path

from audit_lit.errors import TrainingError
from audit_lit.files.writing import TRIAL, dump_json, require_writable, write_whole
from audit_lit.testing.tiny_data import write_tiny_data
from audit_lit.testing.tiny_models import write_tiny_model
from audit_lit.training.recipe import TrainingRecipe
from audit_lit.training.run import train

MODEL = "tiny-llama"


def smoke_run(recipe: TrainingRecipe, out: Path | None = None) -> Path:
    """Train a recipe's shape on a tiny model and return the decoder's folder; None makes a temporary one."""
    folder = out or Path(tempfile.mkdtemp(prefix="audit-lit-smoke-"))
    require_writable(folder, TRIAL, TrainingError)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / TRIAL, dump_json({"trial": recipe.target}) + "\n")
    write_tiny_model(folder / MODEL)
    write_tiny_data(folder / "data")
    small = {
        "target": str(folder / MODEL),
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
