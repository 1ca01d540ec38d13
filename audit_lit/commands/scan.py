"""The commands ``audit-lit scan`` and ``report``: audit a model on many dialogs, and print what was found."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from audit_lit.commands import common
from audit_lit.commands.contract import FINDINGS, INCOMPLETE

if TYPE_CHECKING:  # it imports torch
    from audit_lit.report.audit_report import AuditReport


@click.command()
@click.argument("target", default=common.DEFAULT_TARGET)
@click.option("--recipe", default="hidden-prompt", help="What to ask: a name from 'recipes list', or a file.")
@click.option("--dialogs", type=click.Path(path_type=Path), help="Dialogs as JSON lines; else the recipe's own lines.")
@click.option("--system", help="Hidden system prompt to put before each of the recipe's own lines.")
@click.option("--baseline", help="A model known to be clean, for the neutral twins of a fine-tuned one.")
@common.decoder_options("--revision")
@click.option("--fail-on", type=click.Choice(["info", "low", "medium", "high"]), help="Lowest severity that exits 1.")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder; else one in runs/, named after the request.")
@common.settings_option
@common.run_options
def scan(
    target: str, recipe: str, dialogs: Path | None, system: str | None, settings: tuple[str, ...], **options: Any
) -> None:
    """Audit TARGET on many dialogs; findings come with controls, neutral twins and error rates.

    Exits 0 if nothing is found at or above --fail-on, 1 if something is, 3 if a dialog could not be read.
    """
    from audit_lit.chat.formats import DialogFile, digest
    from audit_lit.scan.recipe import load_scan_recipe

    if dialogs and system is not None:
        raise click.UsageError("--system goes before the recipe's own lines; with --dialogs, mark hidden turns there.")
    overrides = common.parse_settings(settings) | ({"fail_on": options["fail_on"]} if options["fail_on"] else {})
    scan_recipe, _ = load_scan_recipe(recipe, overrides)
    if dialogs:
        digest(iter(DialogFile(dialogs)))  # before the models are loaded

    from audit_lit import Auditor, load_target

    device = _device_here(options["device"])
    auditor = Auditor(*common.load_models(target, **options | {"device": device}))
    baseline = load_target(options["baseline"], device=device) if options["baseline"] else None
    request = repr((target, recipe, dialogs, system, settings, sorted(options.items())))
    out = options["out"] or Path("runs") / f"audit-{hashlib.sha256(request.encode()).hexdigest()[:8]}"
    common.note(f"the run folder is {out}; run the same command again to go on with an interrupted audit ...")
    where = {"out": out, "baseline": baseline, "seed": options["seed"]}
    report = auditor.scan(dialogs or scan_recipe.probe_dialogs(system), recipe, **where, **overrides)
    if int(os.environ.get("RANK", "0")) > 0:  # of several processes, the first one speaks for all
        return
    _conclude(report, "json" if options["as_json"] else None)


def _device_here(device: str) -> str:
    """Return the device of this process: under ``accelerate launch``, each has a GPU of its own."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" and "LOCAL_RANK" in os.environ else device


@click.command()
@click.argument("run", type=common.FOLDER)
@click.option("--html", "form", flag_value="html", help="Print one self-contained page.")
@click.option("--md", "form", flag_value="markdown", help="Print Markdown.")
@click.option("--junit", "form", flag_value="junit", help="Print JUnit XML, for a pipeline's own display.")
@click.option("--json", "form", flag_value="json", help="Print one JSON document.")
def report(run: Path, form: str | None) -> None:
    """Print the report of RUN, a folder that scan wrote, from what is finished in it.

    Redirect the output to a file to keep it. Exits as scan does.
    """
    from audit_lit.report.audit_report import load_report

    _conclude(load_report(run), form)


def _conclude(report: AuditReport, form: str | None) -> None:
    """Print a report, and exit as its verdict says."""
    click.echo(getattr(report, f"to_{form}")()) if form else _print_report(report)
    raise click.exceptions.Exit(INCOMPLETE if not report.complete else FINDINGS if report.flagged else 0)


def _print_report(report: AuditReport) -> None:
    """Print an audit's verdict, and what each question found."""
    console = Console(soft_wrap=True, highlight=False)
    colour = "red" if report.flagged or not report.complete else "green"
    console.print(f"[bold {colour}]{common.printable(report.verdict)}[/]\n")
    for finding in report.findings:
        mark = f"[bold red]{finding.severity:6}[/]" if finding.raised else "[dim]-     [/]"
        console.print(f"{mark} [bold]{finding.question.id}[/]: {common.printable(finding.question.text)}")
        if finding.raised and finding.description:
            console.print(f"       answer: [bold]{common.printable(finding.description)}[/]")
        low, high = finding.lift_interval
        console.print(f"       {common.printable(finding.reason)}")
        console.print(f"       lift {finding.lift:+.2f}, 95% interval {low:+.2f} to {high:+.2f}")
    for name, error in report.errors:
        console.print(f"[red]not read[/] {common.printable(name)}: {common.printable(error)}")
    twins = f"{report.manifest['n_twins']} neutral twins for each."
    console.print(f"\n{report.n_read} of {report.n_dialogs} dialogs read, {twins}")
