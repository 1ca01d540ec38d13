"""The command ``audit-lit report``: print what an audit found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from audit_lit.commands import common
from audit_lit.commands.contract import FINDINGS, INCOMPLETE
from audit_lit.errors import ScanError
from audit_lit.files.reading import is_file
from audit_lit.files.writing import RUN, write_whole

if TYPE_CHECKING:  # it imports torch
    from audit_lit.report.audit_report import AuditReport


FORMS = {".html": "html", ".md": "markdown", ".xml": "junit", ".json": "json", ".txt": "text"}
"""What the end of a file's name says of the report in it."""


@click.command()
@click.argument("run", type=common.FOLDER)
@click.option("--html", "form", flag_value="html", help="Print one self-contained page.")
@click.option("--md", "form", flag_value="markdown", help="Print Markdown.")
@click.option("--junit", "form", flag_value="junit", help="Print JUnit XML, for a pipeline's own display.")
@click.option("--json", "form", flag_value="json", help="Print one JSON document.")
@click.option(
    "--out", type=common.OUTPUT_FILE, help="Write to this file; without --html and the like, its name says what."
)
def report(run: Path, form: str | None, out: Path | None) -> None:
    """Print the report of RUN, a folder that scan wrote, from what is finished in it.

    Exits as scan does.
    """
    form = form or (form_of(out) if out else None)
    if not is_file(run / RUN):  # before torch is imported
        raise ScanError(f"{run} holds no {RUN}; expected the folder of an audit. Name one that 'scan' wrote.")
    from audit_lit.report.audit_report import load_report
    from audit_lit.scan.folder import RunFolder

    loaded = load_report(run)
    if out and form:
        if RunFolder(run).owns(out):
            raise click.UsageError(f"{str(out)!r} is a file of the run itself; name another.")
        write_report(loaded, form, out)
        raise click.exceptions.Exit(exit_code(loaded))
    conclude(loaded, form)


def form_of(path: Path) -> str:
    """Return the form of a report that a file's name ends with."""
    try:
        return FORMS[path.suffix.lower()]
    except KeyError as err:
        expected = f"expected a name that ends in one of {', '.join(FORMS)}"
        raise click.UsageError(f"{str(path)!r} does not say what to write; {expected}.") from err


def write_report(report: AuditReport, form: str, path: Path) -> None:
    """Write a report to a file, in UTF-8."""
    try:
        write_whole(path, str(report) + "\n" if form == "text" else getattr(report, f"to_{form}")() + "\n")
    except OSError as err:
        raise click.UsageError(f"{str(path)!r} cannot be written ({err.strerror}); name another file.") from err
    common.note(f"the report is in {path}.")


def conclude(report: AuditReport, form: str | None) -> None:
    """Print a report, and exit as its verdict says."""
    common.show(getattr(report, f"to_{form}")()) if form else _print_report(report)
    raise click.exceptions.Exit(exit_code(report))


def exit_code(report: AuditReport) -> int:
    """Return the exit code that a report's verdict means."""
    return INCOMPLETE if not report.complete else FINDINGS if report.flagged else 0


def _print_report(report: AuditReport) -> None:
    """Print an audit's verdict, and what each question found."""
    from rich.console import Console

    from audit_lit.report.wording import facts, false_alarms

    console = Console(soft_wrap=True, highlight=False)
    colour = "red" if report.flagged or not report.complete else "green"
    console.print(f"[bold {colour}]{common.printable(report.verdict)}[/]\n")
    for finding in report.findings:
        mark = f"[bold red]{finding.severity:6}[/]" if finding.raised else "[dim]-     [/]"
        console.print(f"{mark} [bold]{finding.question.id}[/]: {common.printable(finding.question.text)}")
        if finding.raised and finding.description:
            whose = f" (dialog {finding.described!r})" if finding.described else ""
            console.print(f"       answer: [bold]{common.printable(finding.description)}[/]{common.printable(whose)}")
        low, high = finding.lift_interval
        console.print(f"       {common.printable(finding.reason)}")
        console.print(f"       lift {finding.lift:+z.2f}, 95% interval {low:+z.2f} to {high:+z.2f}")
    for name, error in report.errors:
        console.print(f"[red]not read[/] {common.printable(name)}: {common.printable(error)}")
    known = facts(report)
    read = f"{report.n_read} of {report.n_dialogs} dialogs read; neutral twins: {known['Neutral twins']}."
    console.print()
    for sentence in filter(None, (read, f"Threshold: {known['Threshold']}.", *false_alarms(report))):
        console.print(common.printable(sentence))
