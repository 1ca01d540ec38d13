"""The command ``audit-lit eval``: measure a decoder, or the edits that it makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from audit_lit.commands import common, models
from audit_lit.files.writing import dump_json

EDITS, ORGANISMS = "edits", "organisms"
SUITES = ("hidden-prompt", "null", "calibration", "inversion", "user-model", "relations")
"""The names of ``evaluation.evaluate.SUITES``, which imports torch."""
N_LINES = 50


@click.command("eval")
@click.argument("suite")
@click.option("--data", multiple=True, type=common.FOLDER, help="Data folder of a layout that the suite can use.")
@click.option("--split", default="dev", help="Split of the data to measure on.")
@models.models_options
@models.library_option
@click.option("--limit", type=click.IntRange(4), help="Number of rows to use; for 'edits', of neutral lines (50).")
@click.option("--recipe", "recipes", multiple=True, help="For 'edits': a recipe to measure; else all. May be repeated.")
@common.settings_option
@click.option("--plot", type=common.OUTPUT_FILE, help="Also draw the figures, into this file.")
@models.run_options
def evaluate(suite: str, plot: Path | None, as_json: bool, **options: Any) -> None:
    """Measure a decoder by SUITE; every figure comes beside its controls.

    hidden-prompt, null, calibration and inversion take data in LatentQA's layout, user-model in TalkTuner's, and
    relations in that of Hernandez et al. edits measures the edits that a decoder makes; --recipe and --set are for it
    alone. It needs no data, except CrowS-Pairs for debias. organisms takes a --library of models with something
    planted.
    """
    if suite != EDITS and (options["recipes"] or options["settings"]):
        raise click.UsageError(f"--recipe and --set are for the suite 'edits'; leave them out of {suite!r}.")
    if suite != ORGANISMS and options["library"]:
        raise click.UsageError(f"--library is for the suite {ORGANISMS!r}; leave it out of {suite!r}.")
    models.require_models(
        options["target"], options["decoder"], revision=options["revision"], adapter=options["adapter"]
    )
    if plot:
        _require_plot(plot)
    special: dict[str, Callable[..., dict[str, Any]]] = {EDITS: _measure_edits, ORGANISMS: _measure_organisms}
    document = special[suite](**options) if suite in special else _measure(suite, **options)
    common.show(dump_json(document, indent=2)) if as_json else _print_document(document)
    if not plot:
        return
    from audit_lit.evaluation import figures

    draw = figures.plot_curves if suite == EDITS else figures.plot
    try:
        draw(document, plot)
    except (OSError, ValueError) as err:
        problem = f"could not be drawn ({err}); name a .png in a folder that is there."
        raise click.UsageError(f"--plot {str(plot)!r} {problem}") from err


def _require_plot(path: Path) -> None:
    """Raise if no figures can be drawn into a file, before hours of measuring."""
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError as err:
        raise click.UsageError("--plot needs matplotlib; install it with pip install 'audit-lit[plot]'.") from err
    known = FigureCanvasBase.get_supported_filetypes()
    if path.suffix.lower().removeprefix(".") not in known:
        raise click.UsageError(f"--plot {str(path)!r}: expected a name that ends in one of {', '.join(known)}.")


def _measure(suite: str, data: tuple[Path, ...], split: str, **options: Any) -> dict[str, Any]:
    if suite not in SUITES:
        raise click.UsageError(f"unknown suite {suite!r}; expected one of {', '.join((*SUITES, EDITS, ORGANISMS))}.")
    if not data:
        raise click.UsageError("--data is missing; expected a folder of a layout that the suite can use.")
    from audit_lit.data.splits import has_split, load_split

    rows = load_split(data, split)
    from audit_lit.evaluation.evaluate import SUITES as RUNNABLE
    from audit_lit.evaluation.evaluate import evaluate

    fits_probe = RUNNABLE[suite].probes and split != "train" and has_split(data, "train")
    train_rows = load_split(data, "train") if fits_probe else []
    target, decoder = models.load_models(**options)
    common.note("measuring ...")
    settings = {name: options[name] for name in ("limit", "layer", "seed")}
    return evaluate(suite, decoder, target, rows, train_rows=train_rows, **settings)


def _measure_edits(
    data: tuple[Path, ...], recipes: tuple[str, ...], settings: tuple[str, ...], **options: Any
) -> dict[str, Any]:
    overrides = common.parse_settings(settings)
    if "debias" in recipes and not data:
        raise click.UsageError("--recipe debias needs --data with CrowS-Pairs' CSV file.")
    from audit_lit.edits.recipe import load_edit_recipe

    for recipe in recipes:
        load_edit_recipe(recipe, overrides)

    from audit_lit.answers.session import Session
    from audit_lit.evaluation.edit_suite.suite import edits

    session = Session.of(*models.load_models(**options), options["layer"])
    common.note("measuring ...")
    limit, seed = options["limit"] or N_LINES, options["seed"]
    return edits(session, recipes=recipes, folders=data, limit=limit, settings=overrides, seed=seed)


def _measure_organisms(library: Path | None, split: str, **options: Any) -> dict[str, Any]:
    base, decoder = models.load_models(**options)
    from audit_lit.evaluation.suites.organisms import organisms
    from audit_lit.organisms.library import shipped_library

    known = models.load_library(library) or shipped_library(base)
    if known is None:
        raise click.UsageError(
            f"no library of organisms ships for {base.name!r}; name one that 'organisms measure' wrote with --library."
        )
    common.note("measuring ...")
    return organisms(decoder.for_layer(options["layer"]), base, known, split=split, seed=options["seed"])


def _print_document(document: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from audit_lit.evaluation.figures import figures

    table = Table("figure and its controls", "decoder", "95% interval", "lift")
    for figure in figures(document):
        interval = "" if figure.interval is None else f"{figure.interval[0]:.2f} to {figure.interval[1]:.2f}"
        controls = "".join(f"\n  [dim]{name} {value:.2f}[/]" for name, value in figure.controls.items())
        lift = "" if figure.lift is None else f"{figure.lift:+z.2f}"
        cost = "" if figure.cost is None else f" (perplexity {figure.cost:+.0%})"
        table.add_row(f"{figure.name}{cost}{controls}", f"[bold]{figure.value:.2f}[/]", interval, lift)
    manifest = document["manifest"]
    console = Console(soft_wrap=True)
    decoder, target = (common.printable(manifest[name]) for name in ("decoder", "target"))
    console.print(f"[bold]{document['suite']}[/]: {decoder} on {target}")
    console.print(table)
    for name, part in document.items():
        if isinstance(part, dict) and "unreached" in part:
            console.print(f"{name}: {part['unreached']}")
        if isinstance(part, dict) and part.get("too_dear"):
            console.print(f"{name}: no strength of {', '.join(part['too_dear'])} is within the allowed cost")
