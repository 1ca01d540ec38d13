"""The command ``audit-lit train``: train a decoder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from audit_lit.commands import common, models
from audit_lit.errors import TrainingError
from audit_lit.files.writing import RUN, TRIAL, require_writable

if TYPE_CHECKING:  # it imports pydantic
    from audit_lit.training.recipe import TrainingRecipe


@click.command()
@click.argument("recipe")
@click.option("--data", multiple=True, type=common.FOLDER, help="Data folder, LatentQA's first. May be repeated.")
@click.option("--out", type=common.OUT_FOLDER, help="Run folder; resumed if it holds this run.")
@models.load_options
@click.option("--smoke", is_flag=True, help="Try a few steps on a tiny random model and built-in data: under a minute.")
@click.option("--track", type=click.Choice(["trackio", "wandb"]), help="Also log to a tracker, which you install.")
@common.settings_option
def train(recipe: str, data: tuple[Path, ...], out: Path | None, smoke: bool, **options: Any) -> None:
    """Train a decoder by RECIPE, a name or a file; a killed run goes on from its last checkpoint."""
    from audit_lit.recipes import recipe_path
    from audit_lit.training.recipe import load_training_recipe
    from audit_lit.training.tracking import require_tracker

    path = recipe_path(recipe, "training")
    training_recipe = load_training_recipe(path, common.parse_settings(options["settings"]))
    if smoke and data:
        raise click.UsageError("--smoke brings its own data; leave out --data, or --smoke for a real run.")
    if not smoke and not data:
        raise click.UsageError(
            "--data is missing; expected a folder of LatentQA's layout (train/ and dev/), or --smoke."
        )

    if options["track"]:
        if smoke:
            raise click.UsageError("--smoke logs to no tracker; leave out --track, or --smoke for a real run.")
        require_tracker(options["track"])
    if not smoke:
        models.require_models(training_recipe.target, training_recipe.start)
    run_folder = out or Path("runs") / path.stem
    if out or not smoke:
        require_writable(run_folder, TRIAL if smoke else RUN, TrainingError)
    if not smoke:
        _check_data(training_recipe, data)

    from audit_lit.display.libraries import quiet_libraries
    from audit_lit.training.run import train as run_training
    from audit_lit.training.smoke import smoke_run

    quiet_libraries()
    if smoke:
        folder = smoke_run(training_recipe, out)
    else:
        weights = models.load_arguments(options)
        folder = run_training(training_recipe, data, run_folder, tracker=options["track"], **weights)
    common.show(folder)


def _check_data(recipe: TrainingRecipe, folders: tuple[Path, ...]) -> None:
    """Raise if the recipe cannot be trained on the data, before torch is imported."""
    from audit_lit.data.rows import measurable
    from audit_lit.data.splits import load_split
    from audit_lit.training.sources import Mixture

    rows = load_split(folders, "train")
    measurable(rows, "the train split")
    measurable(load_split(folders, "dev"), "the dev split")
    Mixture(rows, recipe)
