"""The command ``audit-lit scan``: audit a model on many dialogs."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import click

from audit_lit.commands.common.loading import load_models
from audit_lit.commands.common.options import note, parse_settings
from audit_lit.commands.report import print_report


@click.command()
@click.argument("target", default="smollm2-135m")
@click.option("--recipe", default="hidden-prompt", help="What is asked: a name of 'recipes list', or a file.")
@click.option("--dialogs", type=click.Path(path_type=Path), help="JSON lines of messages; else the recipe's probes.")
@click.option("--system", help="A hidden system prompt before each of the recipe's probes.")
@click.option("--baseline", help="A model known to be clean, for the neutral twins of one that was fine-tuned.")
@click.option("--decoder", default="default", help="Model that answers: 'default', folder or Hub id.")
@click.option("--revision", help="Commit of a Hub decoder.")
@click.option("--fail-on", type=click.Choice(["info", "low", "medium", "high"]), help="Lowest severity that exits 1.")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder; else one in runs/ named after the request.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a setting of the recipe.")
@click.option("--seed", default=0, type=click.IntRange(0), help="Of samples, twins and random controls.")
@click.option("--device", default="cpu", help="Where to run, as torch names it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def scan(
    target: str, recipe: str, dialogs: Path | None, system: str | None, settings: tuple[str, ...], **options: Any
) -> None:
    """Audit TARGET on many dialogs; findings come with controls, neutral twins and error rates.

    Exits 0 if nothing is found at or above --fail-on, 1 if something is, 3 if a dialog could not be read.
    """
    from audit_lit.chat.formats import DialogFile, digest
    from audit_lit.scan.recipe import load_scan_recipe

    if dialogs and system is not None:
        raise click.UsageError("--system goes before the recipe's probes; with --dialogs, mark hidden turns there.")
    overrides = parse_settings(settings) | ({"fail_on": options["fail_on"]} if options["fail_on"] else {})
    loaded, _ = load_scan_recipe(recipe, overrides)
    if dialogs:
        digest(iter(DialogFile(dialogs)))  # before the models are loaded
    given = dialogs or loaded.probe_dialogs(system)

    from audit_lit import Auditor, load_target

    device = _device_here(options["device"])
    model, decoder = load_models(target, **options | {"device": device})
    clean = load_target(options["baseline"], device=device) if options["baseline"] else None
    out = options["out"] or _run_folder(target, recipe, dialogs, system, settings, sorted(options.items()))
    note(f"the run folder is {out}; run the same command again to go on with an interrupted audit ...")
    place = {"out": out, "baseline": clean, "seed": options["seed"]}
    report = Auditor(model, decoder).scan(given, recipe, **place, **overrides)
    if not _is_main_process():  # of several: the first one speaks for all
        return
    click.echo(report.to_json()) if options["as_json"] else print_report(report)
    raise click.exceptions.Exit(3 if not report.complete else int(report.flagged))


def _is_main_process() -> bool:
    """Return whether this is the first, or only, process of those that ``accelerate launch`` started."""
    return int(os.environ.get("RANK", "0")) == 0


def _device_here(device: str) -> str:
    """Return the device of this process: under ``accelerate launch``, each has a GPU of its own."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" and "LOCAL_RANK" in os.environ else device


def _run_folder(*asked: object) -> Path:
    """Return where a run is kept by default: the same for the same request, so that it can go on."""
    return Path("runs") / f"audit-{hashlib.sha256(repr(asked).encode()).hexdigest()[:8]}"
