"""The commands of ``audit-lit organisms``: build models with something planted in them."""

from __future__ import annotations

from pathlib import Path

import click

from audit_lit.commands import common, models


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

    from audit_lit.display.libraries import quiet_libraries
    from audit_lit.models.loading import load_target
    from audit_lit.organisms.build import Zoo

    quiet_libraries()
    zoo = Zoo.of(zoo_recipe, load_target(zoo_recipe.target))
    n_built = sum(zoo.has(organism, out) for organism in wanted)
    with tqdm(total=len(wanted), initial=n_built, desc="organisms", unit="organism") as progress:
        for n_written in zoo.build(wanted, out):
            progress.update(n_written)
    common.show(out)


@organisms.command("measure")
@click.argument("zoo", type=common.FOLDER)
@click.option("--target", default=models.DEFAULT_TARGET, help="Target model: an alias, a folder or a Hub id.")
@click.option(
    "--layers", multiple=True, type=int, help="Layer to measure at. May be repeated; else three in the middle."
)
@click.option("--out", type=common.OUTPUT_FILE, required=True, help="File to write, for --library.")
def measure(zoo: Path, target: str, layers: tuple[int, ...], out: Path) -> None:
    """Measure what training changed in the organisms of ZOO; the file is what fine-tunes are compared with."""
    from tqdm.auto import tqdm

    from audit_lit.display.libraries import quiet_libraries
    from audit_lit.models.loading import load_target
    from audit_lit.organisms.library import N_LINES, Library, measured
    from audit_lit.recipes import neutral_lines

    quiet_libraries()
    base = load_target(target)
    thirds = sorted({base.n_layers // 3, base.n_layers // 2, 2 * base.n_layers // 3})
    rows = measured(zoo, base, neutral_lines()[:N_LINES], layers or thirds)
    known, differences = zip(*tqdm(rows, desc="organisms", unit="organism"), strict=True)
    Library(known, differences, base.name, base.fingerprint()).save(out)
    common.show(out)
