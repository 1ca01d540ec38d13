"""The command ``audit-lit train``: train a decoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from audit_lit.commands.common.options import FOLDER, parse_settings


@click.command()
@click.argument("recipe")
@click.option("--data", multiple=True, type=FOLDER, help="Folder of LatentQA's layout; others may follow, repeated.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Run folder; resumed if it holds this run."
)
@click.option("--device", default="cpu", help="Where to train, as torch names it.")
@click.option("--smoke", is_flag=True, help="A few steps on a tiny random model and built-in data, in under a minute.")
@click.option("--track", type=click.Choice(["trackio", "wandb"]), help="Log to a tracker, too; install it first.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a setting of the recipe.")
def train(
    recipe: str, data: tuple[Path, ...], out: Path | None, smoke: bool, settings: tuple[str, ...], **options: Any
) -> None:
    """Train a decoder by RECIPE, a name or a file; a killed run goes on from its last checkpoint."""
    from audit_lit.recipes import recipe_path
    from audit_lit.training.recipe import load_training_recipe
    from audit_lit.training.run import train as run_training
    from audit_lit.training.smoke import smoke_run

    path = recipe_path(recipe)
    loaded = load_training_recipe(path, parse_settings(settings))
    if smoke and data:
        raise click.UsageError("--smoke brings its own data; leave out --data, or --smoke for a real run.")
    if smoke:
        folder = smoke_run(loaded, out)
    elif not data:
        raise click.UsageError(
            "--data is missing; expected a folder of LatentQA's layout (train/ and dev/), or --smoke."
        )
    else:
        place = {"device": options["device"], "tracker": options["track"]}
        folder = run_training(loaded, data, out or Path("runs") / path.stem, **place)
    click.echo(folder)
