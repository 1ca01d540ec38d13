"""The command ``audit-lit report``: print what an audit found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from audit_lit.commands import common
from audit_lit.commands.contract import FINDINGS, INCOMPLETE

if TYPE_CHECKING:  # it imports torch
    from audit_lit.report.audit_report import AuditReport


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

    conclude(load_report(run), form)


def conclude(report: AuditReport, form: str | None) -> None:
    """Print a report, and exit as its verdict says."""
    click.echo(getattr(report, f"to_{form}")()) if form else _print_report(report)
    raise click.exceptions.Exit(INCOMPLETE if not report.complete else FINDINGS if report.flagged else 0)


def _print_report(report: AuditReport) -> None:
    """Print an audit's verdict, and what each question found."""
    from rich.console import Console

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
