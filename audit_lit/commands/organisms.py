"""The commands of ``audit-lit organisms``: build models with something planted in them."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from audit_lit.commands import common, models

if TYPE_CHECKING:
    from audit_lit.data.rows import Row
    from audit_lit.models.difference import Difference
    from audit_lit.models.target import Target
    from audit_lit.organisms.library import Known

measured_options = common.together(
    click.option("--target", default=models.DEFAULT_TARGET, help="Target model: an alias, a folder or a Hub id."),
    click.option(
        "--layers", multiple=True, type=int, help="Layer to measure at. May be repeated; else three in the middle."
    ),
)


@click.group()
def organisms() -> None:
    """Build model organisms: models with something harmless planted in them, and clean ones."""


@organisms.command("build")
@click.argument("recipe", default="zoo")
@click.option("--out", type=common.OUT_FOLDER, required=True, help="Folder of the zoo; what it holds stays.")
@click.option("--limit", type=click.IntRange(min=1), help="Build only the first so many organisms.")
def build(recipe: str, out: Path, limit: int | None) -> None:
    """Train the organisms of RECIPE, a name or a file; an interrupted build goes on where it stopped."""
    from audit_lit.organisms.recipe import load_zoo_recipe

    zoo_recipe = load_zoo_recipe(recipe)
    wanted = zoo_recipe.organisms()[:limit]

    from tqdm.auto import tqdm

    from audit_lit.organisms.build import Zoo

    zoo = Zoo.of(zoo_recipe, _loaded(zoo_recipe.target))
    n_built = sum(zoo.has(organism, out) for organism in wanted)
    with tqdm(total=len(wanted), initial=n_built, desc="organisms", unit="organism") as progress:
        for n_written in zoo.build(wanted, out):
            progress.update(n_written)
    common.show(out)


@organisms.command("prompts")
@click.option(
    "--data", "folders", multiple=True, type=common.FOLDER, required=True, help="Data folder. May be repeated."
)
@measured_options
@click.option("--limit", type=click.IntRange(min=1), help="Measure only so many prompts of each folder.")
@click.option("--out", type=common.OUTPUT_FILE, required=True, help="File to write, for a training recipe.")
def prompts(folders: tuple[Path, ...], target: str, layers: tuple[int, ...], limit: int | None, out: Path) -> None:
    """Measure what system prompts change, to train a decoder on them as if each had been trained into a model."""
    from audit_lit.data.splits import load_split
    from audit_lit.organisms.measure import middle_layers
    from audit_lit.organisms.prompted import N_LINES, prompted
    from audit_lit.recipes import neutral_lines

    rows = [row for folder in folders for row in _drawn(load_split([folder], "train"), limit)]
    base = _loaded(target)
    _save(prompted(rows, base, neutral_lines()[:N_LINES], layers or middle_layers(base)), len(rows), base, out)


def _loaded(name: str) -> Target:
    from audit_lit.display.libraries import quiet_libraries
    from audit_lit.models.loading import load_target

    quiet_libraries()
    return load_target(name)


def _drawn(rows: list[Row], limit: int | None) -> list[Row]:
    """Return a system prompt of each label, or only so many, drawn at random."""
    from audit_lit.organisms.prompted import distinct

    labelled = sorted(distinct(rows), key=lambda row: row.label)
    return random.Random(0).sample(labelled, min(limit or len(labelled), len(labelled)))


def _save(rows: Iterable[tuple[Known, Difference]], n_rows: int | None, base: Target, out: Path) -> None:
    from tqdm.auto import tqdm

    from audit_lit.organisms.library import Library

    known, differences = zip(*tqdm(rows, total=n_rows, desc="organisms", unit="organism"), strict=True)
    Library(known, differences, base.name, base.fingerprint()).save(out)
    common.show(out)


@organisms.command("measure")
@click.argument("zoo", type=common.FOLDER)
@measured_options
@click.option("--out", type=common.OUTPUT_FILE, required=True, help="File to write, for --library.")
def measure(zoo: Path, target: str, layers: tuple[int, ...], out: Path) -> None:
    """Measure what training changed in the organisms of ZOO; the file is what fine-tunes are compared with."""
    from audit_lit.organisms.measure import N_LINES, measured, middle_layers
    from audit_lit.recipes import neutral_lines

    base = _loaded(target)
    _save(measured(zoo, base, neutral_lines()[:N_LINES], layers or middle_layers(base)), None, base, out)
