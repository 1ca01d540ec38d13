"""The command ``audit-lit eval``: what a decoder, or the edits that it makes, are worth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from audit_lit.commands.common.loading import load_models
from audit_lit.commands.common.options import FOLDER, note, parse_settings
from audit_lit.commands.common.terminal import printable


@click.command("eval")
@click.argument("suite")
@click.option("--data", multiple=True, type=FOLDER, help="Folder of a layout that the suite can use.")
@click.option("--split", default="dev", help="Folder in it that is measured.")
@click.option("--target", default="smollm2-135m", help="Model that is read: alias, folder or Hub id.")
@click.option("--decoder", default="default", help="Model that is measured: 'default', folder or Hub id.")
@click.option("--revision", help="Commit of a Hub decoder.")
@click.option("--limit", type=click.IntRange(4), help="Use this many labels; of 'edits', neutral lines (50).")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Of 'edits': override the recipes' settings."
)
@click.option("--recipe", "recipes", multiple=True, help="Of 'edits': those to measure; may repeat. Else all.")
@click.option("--layer", type=int, help="Layer to read, for a decoder that reads one of several.")
@click.option("--seed", default=0, type=click.IntRange(0), help="Of every draw.")
@click.option("--device", default="cpu", help="Where to run, as torch names it.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw the figures into this file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def evaluate(suite: str, plot: Path | None, as_json: bool, **options: Any) -> None:
    """Measure a decoder by SUITE; every figure comes beside its controls.

    hidden-prompt, null, calibration and inversion take LatentQA's layout, user-model TalkTuner's, and relations that of
    Hernandez et al. edits measures the edits that a decoder makes: it needs no data, but CrowS-Pairs for debias.
    """
    if suite != "edits" and (options["recipes"] or options["settings"]):
        raise click.UsageError(f"--recipe and --set are for the suite 'edits'; leave them out of {suite!r}.")
    document = _edits(**options) if suite == "edits" else _suite(suite, **options)
    click.echo(json.dumps(document, indent=2)) if as_json else _print_document(document)
    if plot:
        _draw(document, plot)


def _suite(suite: str, data: tuple[Path, ...], split: str, **options: Any) -> dict[str, Any]:
    from audit_lit.data.splits import has_split, load_split
    from audit_lit.evaluation.evaluate import SUITES, evaluate

    if not data:
        raise click.UsageError("--data is missing; expected a folder of a layout that the suite can use.")
    rows = load_split(data, split)
    probes = suite in SUITES and SUITES[suite].probes and split != "train" and has_split(data, "train")
    train_rows = load_split(data, "train") if probes else []
    target, decoder = load_models(**options)
    note("measuring ...")
    settings = {name: options[name] for name in ("limit", "layer", "seed")}
    return evaluate(suite, decoder, target, rows, train_rows=train_rows, **settings)


def _edits(
    data: tuple[Path, ...], recipes: tuple[str, ...], settings: tuple[str, ...], **options: Any
) -> dict[str, Any]:
    from audit_lit.answers.session import Session
    from audit_lit.evaluation.edit_suite.suite import edits

    if "debias" in recipes and not data:
        raise click.UsageError("--recipe debias needs --data with CrowS-Pairs' CSV file.")
    how = {"limit": options["limit"] or 50, "seed": options["seed"], "settings": parse_settings(settings)}
    target, decoder = load_models(**options)
    note("measuring ...")
    return edits(Session.of(target, decoder, options["layer"]), recipes=recipes, folders=data, **how)


def _draw(document: dict[str, Any], path: Path) -> None:
    from audit_lit.evaluation.figures import plot, plot_curves

    try:
        (plot_curves if document["suite"] == "edits" else plot)(document, path)
    except (OSError, ValueError) as err:
        raise click.UsageError(
            f"--plot {str(path)!r} could not be drawn ({err}); name a .png in a folder that is there."
        ) from err


def _print_document(document: dict[str, Any]) -> None:
    """Print what a suite measured, each figure beside its controls."""
    from audit_lit.evaluation.figures import figures

    manifest = document["manifest"]
    table = Table("figure and its controls", "decoder", "95% interval", "lift")
    for figure in figures(document):
        interval = "" if figure.interval is None else f"{figure.interval[0]:.2f} to {figure.interval[1]:.2f}"
        controls = "".join(f"\n  [dim]{name} {value:.2f}[/]" for name, value in figure.controls.items())
        lift = "" if figure.lift is None else f"{figure.lift:+.2f}"
        cost = "" if figure.cost is None else f" (perplexity {figure.cost:+.0%})"
        table.add_row(f"{figure.name}{cost}{controls}", f"[bold]{figure.value:.2f}[/]", interval, lift)
    console = Console(soft_wrap=True)
    console.print(f"[bold]{document['suite']}[/]: {printable(manifest['decoder'])} on {printable(manifest['target'])}")
    console.print(table)
    for name, part in document.items():
        if isinstance(part, dict) and "unreached" in part:
            console.print(f"{name}: {part['unreached']}")
        if isinstance(part, dict) and part.get("too_dear"):
            console.print(f"{name}: no strength of {', '.join(part['too_dear'])} is within the allowed cost")
