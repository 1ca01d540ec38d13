"""What a person sees in a terminal. Model text is untrusted: control sequences and markup are taken out of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Column, Table

from audit_lit.answer import Answer
from audit_lit.dialog import is_hidden

if TYPE_CHECKING:
    from audit_lit.claims import Claim
    from audit_lit.doctor import Check
    from audit_lit.hooks import Origin
    from audit_lit.scan.report import AuditReport


def printable(text: str) -> str:
    """Return text without terminal control sequences and with markup made inert."""
    return escape("".join(char for char in text if char.isprintable() or char == "\n"))


def dialog_panel(dialog: Sequence[Mapping[str, Any]]) -> None:
    """Print a dialog and say what the decoder does not see."""
    lines = []
    for message in dialog:
        secret = "  [yellow](hidden from the decoder)[/]" if is_hidden(message) else ""
        lines.append(f"[bold]{message['role']}[/]{secret}\n  {printable(message['content'])}")
    Console().print(Panel("\n".join(lines), title="dialog that the target read", title_align="left"))


def answers_table(answer: Answer) -> None:
    """Print an answer beside its controls."""
    table = Table(title=f"[bold]{printable(answer.question)}[/]", title_justify="left", min_width=72)
    table.add_column("answer given", no_wrap=True)
    table.add_column("nats/token", justify="right")
    table.add_column("lift", justify="right")
    table.add_row("[bold]these activations[/]", f"{answer.score:.2f}", "")
    for name, score in answer.controls.items():
        strongest = " (strongest)" if name == answer.strongest_control else ""
        table.add_row(f"{name}{strongest}", f"{score:.2f}", f"{answer.score - score:+.2f}")
    low, high = answer.interval
    console = Console(soft_wrap=True)
    console.print()
    console.print(table)
    console.print(f"  answer:    [bold]{printable(answer.text) or '(empty)'}[/]")
    console.print(f"  verdict:   [{'green' if answer.supported else 'yellow'}]{printable(answer.verdict)}[/]")
    threshold = "not measured" if answer.threshold is None else f"{answer.threshold:.2f}"
    console.print(f"  lift:      {answer.lift:+.2f}, 95% interval {low:+.2f} to {high:+.2f}, threshold {threshold}")
    if answer.samples:
        console.print(f"  samples:   agreement {answer.agreement:.2f} over {len(answer.samples)}")
        for sample in answer.samples:
            console.print(f"    [dim]- {printable(sample)}[/]")
    where = " ".join(printable(json.dumps(token, ensure_ascii=False)) for token in answer.tokens)
    console.print(f"  read from: layers {list(answer.layers)}, {len(answer.positions)} positions: [dim]{where}[/]")


def claims_table(claims: Sequence[Claim]) -> None:
    """Print claims with their probability, if there are any."""
    if not claims:
        return
    table = Table("claim", "right*", "the one**", "evidence, nats", "shuffled", "no_activation")
    table.caption = "*if it was as likely right as wrong before   **if exactly one of these claims is right"
    for claim in claims:
        known = ("-" if p is None else f"{p:.2f}" for p in (claim.probability, claim.share))
        controls = (f"{claim.controls[name]:+.1f}" for name in ("shuffled", "no_activation"))
        table.add_row(printable(claim.text), *known, f"[bold]{claim.evidence:+.1f}[/]", *controls)
    Console().print(table)


def report_lines(report: AuditReport) -> None:
    """Print an audit's verdict, and what each question found."""
    console = Console(soft_wrap=True, highlight=False)
    colour = "red" if report.flagged or not report.complete else "green"
    console.print(f"[bold {colour}]{printable(report.verdict)}[/]\n")
    for one in report.findings:
        mark = f"[bold red]{one.severity:6}[/]" if one.raised else "[dim]-     [/]"
        console.print(f"{mark} [bold]{one.question.id}[/]: {printable(one.question.text)}")
        if one.raised and one.description:
            console.print(f"       answer: [bold]{printable(one.description)}[/]")
        low, high = one.lift_interval
        console.print(
            f"       {printable(one.reason)}\n       lift {one.lift:+.2f}, 95% interval {low:+.2f} to {high:+.2f}"
        )
    for name, error in report.errors:
        console.print(f"[red]not read[/] {printable(name)}: {printable(error)}")
    n_twins = report.manifest["n_twins"]
    console.print(f"\n{report.n_read} of {report.n_dialogs} dialogs read, {n_twins} neutral twins for each.")


def edit_lines(origin: Origin) -> None:
    """Print what an edit is and what was measured of it."""
    console = Console(soft_wrap=True, highlight=False)
    found = origin.metrics
    console.print(f"wanted:   [bold]{printable(origin.want)}[/]")
    layers = printable(str(origin.settings.get("layers")))
    console.print(f"made:     {printable(origin.method)}, layers {layers}, for {printable(origin.target)}")
    if {"kl", "perplexity_ratio", "loss_before", "loss_after"} <= set(found):
        change = f"{found['loss_before']:.2f} to {found['loss_after']:.2f} nats per token"
        drift = f"{found['kl']:.3f} nats per token, perplexity x {found['perplexity_ratio']:.3f}"
        if found.get("scaled_to_budget", 1) < 1:
            drift += f", scaled to {found['scaled_to_budget']:.2f} of its strength for the budget,"
        console.print(
            f"decoder:  finds the wanted answers less surprising: {change}\ndrift:    {drift} on neutral text"
        )
    if "check" in found:
        check_table(found["check"])


def check_table(check: Mapping[str, Any]) -> None:
    """Print what an edit does beside its controls."""
    table = Table("replies", Column("wanted, nats/token", justify="right"), Column("perplexity", justify="right"))
    for name, one in check["effects"].items():
        bold = "[bold]" if name == "edit" else ""
        wanted = "says nothing" if one["wanted"] is None else f"{one['wanted']:+.2f}"
        table.add_row(f"{bold}{printable(name)}", f"{bold}{wanted}", f"{bold}{one['perplexity']:.2f}")
    console = Console(soft_wrap=True, highlight=False)
    console.print(table)
    colour = "green" if check["beats_controls"] else "yellow"
    console.print(f"verdict:  [{colour}]{printable(check['verdict'])}[/]")


def side_by_side(rows: Sequence[Mapping[str, str]]) -> None:
    """Print what the model says with and without an edit."""
    table = Table("user", "unedited", "edited", show_lines=True)
    for row in rows:
        table.add_row(*(printable(row[name]) for name in ("user", "unedited", "edited")))
    Console().print(table)


def evaluation_table(document: dict[str, Any]) -> None:
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


def decoders_table(as_json: bool) -> None:
    """Print the decoders that need no ``protocol=``."""
    from audit_lit.decoder_files import SHIPPED
    from audit_lit.protocol import Protocol
    from audit_lit.registry import PUBLISHED

    known = [("shipped", name, Protocol.load(folder)) for name, folder in SHIPPED.items()]
    known += [("Hub", name, protocol) for name, protocol in PUBLISHED.items()]
    if as_json:
        Console(soft_wrap=True).print_json(
            json.dumps([{"where": where, "id": name, **asdict(protocol)} for where, name, protocol in known])
        )
        return
    console = Console(soft_wrap=True)
    for where, name, protocol in known:
        layers = f"{', '.join(map(str, protocol.read_layers))} of {protocol.n_layers}"
        writes = f"{protocol.write} at block {protocol.write_layer}"
        console.print(f"[bold]{name}[/] ({where})")
        console.print(
            f"    reads {protocol.target}, layers {layers}; writes by {writes}; {protocol.licence or 'see its card'}"
        )


def doctor_table(checks: Sequence[Check], as_json: bool) -> None:
    """Print what was examined."""
    if as_json:
        Console(soft_wrap=True).print_json(json.dumps([asdict(check) for check in checks]))
        return
    table = Table("", "what", Column("found", overflow="fold"), Column("next step", overflow="fold"))
    for check in checks:
        table.add_row(
            "[green]ok[/]" if check.ok else "[red]missing[/]", check.what, escape(check.found), escape(check.step)
        )
    Console().print(table)
