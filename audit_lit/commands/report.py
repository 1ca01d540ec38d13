"""The command ``audit-lit report``: the report of a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from audit_lit.commands.common.options import FOLDER
from audit_lit.commands.common.terminal import printable

if TYPE_CHECKING:
    from audit_lit.report.audit_report import AuditReport


@click.command()
@click.argument("run", type=FOLDER)
@click.option("--html", "form", flag_value="html", help="One self-contained page.")
@click.option("--md", "form", flag_value="markdown", help="Markdown.")
@click.option("--junit", "form", flag_value="junit", help="JUnit XML, for a pipeline's own display.")
@click.option("--json", "form", flag_value="json", help="One JSON document.")
def report(run: Path, form: str | None) -> None:
    """Print the report of RUN, a folder that scan wrote, from what is finished in it; redirect it to a file.

    Exits as scan does.
    """
    from audit_lit.report.audit_report import load_report

    found = load_report(run)
    click.echo(getattr(found, f"to_{form}")()) if form else print_report(found)
    raise click.exceptions.Exit(3 if not found.complete else int(found.flagged))


def print_report(report: AuditReport) -> None:
    """Print an audit's verdict, and what each question found."""
    console = Console(soft_wrap=True, highlight=False)
    colour = "red" if report.flagged or not report.complete else "green"
    console.print(f"[bold {colour}]{printable(report.verdict)}[/]\n")
    for finding in report.findings:
        mark = f"[bold red]{finding.severity:6}[/]" if finding.raised else "[dim]-     [/]"
        console.print(f"{mark} [bold]{finding.question.id}[/]: {printable(finding.question.text)}")
        if finding.raised and finding.description:
            console.print(f"       answer: [bold]{printable(finding.description)}[/]")
        low, high = finding.lift_interval
        console.print(
            f"       {printable(finding.reason)}\n"
            f"       lift {finding.lift:+.2f}, 95% interval {low:+.2f} to {high:+.2f}"
        )
    for name, error in report.errors:
        console.print(f"[red]not read[/] {printable(name)}: {printable(error)}")
    n_twins = report.manifest["n_twins"]
    console.print(f"\n{report.n_read} of {report.n_dialogs} dialogs read, {n_twins} neutral twins for each.")
