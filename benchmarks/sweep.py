"""``python -m benchmarks.sweep SWEEP.yaml --data DIR --out RUNS``: short trainings that differ in one setting each.

Prints what each variant reads on the dev split, as a Markdown table; a killed sweep goes on where it stopped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import yaml

from audit_lit.data.splits import load_split, split_hash
from audit_lit.models.loading import load_target
from audit_lit.recipes import recipe_path
from audit_lit.training.log import LOG, read_log
from audit_lit.training.recipe import TrainingRecipe, load_training_recipe
from audit_lit.training.run import new_decoder
from audit_lit.training.trainer import Trainer


def variants(path: Path) -> dict[str, TrainingRecipe]:
    """Return the recipe of each variant of a sweep: the base recipe, what all change, what one changes."""
    sweep = yaml.safe_load(path.read_text(encoding="utf-8"))
    base = recipe_path(sweep["recipe"])
    return {name: load_training_recipe(base, sweep["common"] | changes) for name, changes in sweep["variants"].items()}


def run(recipe: TrainingRecipe, data: Path, out: Path) -> list[dict[str, Any]]:
    """Train one variant, or resume its training, and return its log."""
    rows, dev_rows = load_split([data], "train"), load_split([data], "dev")
    target = load_target(recipe.target)
    decoder = new_decoder(recipe, target, rows, split_hash([data], "train"))
    Trainer(recipe, target, decoder, out).train(rows, dev_rows)
    return read_log(out / LOG)


def row(name: str, log: list[dict[str, Any]]) -> str:
    """Return a variant's line of the table."""
    gap = log[-1]["gap_label"]
    low, high = gap["interval"]
    rates = sorted(record["examples_per_s"] for record in log)
    return f"| {name} | {gap['gap']:.2f} ({low:.2f} to {high:.2f}) | {gap['true']:.2f} | {rates[len(rates) // 2]:.1f} |"


@click.command(help=__doc__)
@click.argument("sweep", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
def main(sweep: Path, data: Path, out: Path) -> None:
    """Train every variant and print the table."""
    click.echo("| variant | gap, label words (95%) | loss | examples/s |\n|---|---|---|---|")
    for number, (name, recipe) in enumerate(variants(sweep).items()):
        click.echo(row(name, run(recipe, data, out / f"{number:02}")))


if __name__ == "__main__":
    main()
