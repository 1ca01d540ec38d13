"""A decoder's model card: what it is, what it cost, what it reaches beside its controls, and its limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from audit_lit.decoder.decoder import Decoder
from audit_lit.files.writing import dump_json, write_whole
from audit_lit.training.log import read_log
from audit_lit.training.recipe import TrainingRecipe


def _beside(figures: dict[str, Any], key: str) -> str:
    low, high = figures["interval"]
    return f"{figures[key]:.2f} ({low:.2f} to {high:.2f})"


def _controls(figures: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in figures["controls"].items())


def write_card(folder: Path, decoder: Decoder, recipe: TrainingRecipe, results: dict[str, Any], log: Path) -> None:
    """Write ``README.md`` and ``evaluation.json`` beside the adapter."""
    from huggingface_hub import ModelCard, ModelCardData

    seconds = sum(recipe.batch_size / record["examples_per_s"] for record in read_log(log))
    tags = ["latentqa", "interpretability", "activations"]
    labels = {"license": recipe.licence, "base_model": decoder.config.base, "language": "en", "tags": tags}
    card = ModelCard.from_template(
        ModelCardData(library_name="audit-lit", **labels),
        template_path=str(Path(__file__).with_name("card.md.jinja")),
        config=decoder.config,
        recipe=recipe,
        results=results,
        hours=f"{seconds / 3600:.1f}",
        rate=f"{recipe.n_steps * recipe.batch_size / seconds:.1f}",
        two=lambda value: f"{value:.2f}",
        hidden=results["hidden-prompt"],
        baseline=decoder.text_baseline.config if decoder.text_baseline else None,
        beside=_beside,
        controls=_controls,
    )
    write_whole(folder / "README.md", str(card))
    write_whole(folder / "evaluation.json", dump_json(results, indent=1) + "\n")
