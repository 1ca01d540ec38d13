"""Small runs of the trainer, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from helpers.support import RECIPE


def plain_recipe() -> Any:
    """The shipped recipe without what it asks about organisms, which are of the default target."""
    from audit_lit.training.recipe import load_training_recipe

    recipe = load_training_recipe(RECIPE)
    mixture = tuple(share for share in recipe.mixture if not share.source.startswith("trained_"))
    return recipe.model_copy(update={"organisms": (), "mixture": mixture})


def small_recipe(folders: tuple[Path, Path], **changes: Any) -> Any:
    """The shipped recipe on a tiny model and a few examples."""
    recipe = plain_recipe()
    small: dict[str, Any] = {
        "target": str(folders[0]),
        "start": None,
        "rival": 0,
        "wire": recipe.wire.model_copy(update={"read_layers": (1,)}),
        "examples": 40,
        "batch_size": 4,
        "buckets": 4,
        "evaluate_every": 5,
        "checkpoint_every": 2,
        "lora": recipe.lora.model_copy(update={"lora_dropout": 0.1}),
    }
    return recipe.model_copy(update={**small, **changes})


def batches(folders: tuple[Path, Path], recipe: Any, **share: int) -> Any:
    """This process's part of a run on the tiny data."""
    from audit_lit.data.splits import load_split
    from audit_lit.models.loading import load_target
    from audit_lit.training.batches import Batches
    from audit_lit.training.run import new_decoder
    from audit_lit.training.sources import Mixture

    target, rows = load_target(str(folders[0])), load_split([folders[1]], "train")
    return Batches(Mixture(rows, recipe), target, new_decoder(recipe, target, rows, ""), **share)


def losses(folder: Path) -> list[float]:
    """The losses that a run logged."""
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]
