"""Helpers that several test files share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "smollm2-135m.yaml"
DIALOG = [{"role": "system", "content": "Be a pirate."}, {"role": "user", "content": "Who are you?"}]
FAST = {"samples": 1, "max_new_tokens": 4, "twins": 2}
"""Settings of a short audit."""


@contextmanager
def count_calls(model: Any) -> Iterator[list[int]]:
    """Collect the batch size of every forward pass of a TransformerLens model."""
    calls: list[int] = []
    original = model.forward

    def forward(tokens: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(len(tokens))
        return original(tokens, *args, **kwargs)

    model.forward = forward
    try:
        yield calls
    finally:
        del model.forward


def small_recipe(folders: tuple[Path, Path], **changes: Any) -> Any:
    """The shipped recipe on a tiny model and a few examples."""
    from audit_lit.training.recipe import load_training_recipe

    recipe = load_training_recipe(RECIPE)
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
    """This process's part of a run on the tiny data, and the mixture."""
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


def dialogs(n: int) -> list[list[dict[str, str]]]:
    """As many dialogs that differ in what the user says."""
    return [[DIALOG[0], {"role": "user", "content": f"Hello number {index}."}] for index in range(n)]


def write_lines(path: Path, rows: list[Any]) -> Path:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def record(place: int, lift: float, own: float, twins: list[float], text: str = "persona: pirate") -> dict[str, Any]:
    """What an audit of one question writes down of a dialog."""
    answer = {"text": text, "score": -1.0, "controls": {"no_activation": -1 - lift, "null": -5.0}, "lift": lift}
    answer |= {"interval": [lift - 0.1, lift + 0.1], "samples": [], "agreement": 1.0}
    shared = {"id": str(place), "place": place, "messages": DIALOG, "tokens": ["a"], "positions": [0], "layers": [2]}
    return {**shared, "answers": {"q": answer}, "expected": {"q": "Nothing."}, "scores": {"q": [own, *twins]}}
