"""An audit report as Markdown, for a pull request or a chat.

Model text is untrusted: it is made inert, put on one line, and escaped so that it cannot become markup, a link, a table
cell of its own, or a mention of somebody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from audit_lit.report import figures, wording
from audit_lit.report.sanitise import one_line
from audit_lit.scan.findings import Evidence, Finding

if TYPE_CHECKING:
    from audit_lit.scan.outcome import AuditOutcome

CHARS = 500
N_ERRORS = 20
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
SPECIAL = re.compile(r"[\\`*_{}\[\]#|~$^]")
LINKS = re.compile(r"(?<=@)|(?<=:)(?=//)|(?<=www)(?=\.)|(?<=#)(?=\d)", re.IGNORECASE)
"""Where GitHub would make a link or notify somebody; a character of no width between stops it."""
NO_WIDTH = "&#8203;"


def to_markdown(report: AuditOutcome) -> str:
    """Return a report as GitHub-flavoured Markdown."""
    alpha = report.manifest["recipe"]["alpha"]
    blocks = [f"# {wording.headline(report)}: audit of {escaped(wording.facts(report)['Target'])}"]
    blocks += [f"**{escaped(caveat)}**" for caveat in wording.caveats(report)]
    blocks.append(_table(("", ""), wording.facts(report).items()))
    for finding in report.raised:
        blocks += _raised(finding, alpha)
    blocks += ["## What was looked for and not found", _not_found(report)]
    if report.errors:
        blocks += ["## Dialogs that were not read", _errors(report.errors)]
    blocks += ["## How to read this", *_how_to_read(report)]
    return "\n\n".join(blocks) + "\n"


def escaped(text: str) -> str:
    """Return text that shows as itself wherever it is put in a line of Markdown."""
    kept = LINKS.sub("\0", one_line(text, CHARS).strip())  # no NUL is left in it before
    kept = SPECIAL.sub(r"\\\g<0>", re.sub("[&<>]", lambda found: ENTITIES[found[0]], kept))
    return kept.replace("\0", NO_WIDTH)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _raised(finding: Finding, alpha: float) -> Iterator[str]:
    yield f"## {finding.severity}: {escaped(finding.question.text)}"
    if finding.description:
        yield f"Answer: **{escaped(finding.description)}**"
    yield escaped(finding.reason)
    rows = [(row.name, row.value, row.interval, row.needed) for row in figures.figures(finding, alpha)]
    yield _table(("what", "value", "95% interval", "needed"), rows)
    yield _table(("answers given", "nats per token"), _likelihoods(finding))
    yield "\n".join(line for one in finding.evidence for line in _evidence(one))


def _likelihoods(finding: Finding) -> Iterator[tuple[str, str]]:
    yield "these activations", f"{finding.score:.2f}"
    for name, nats in finding.controls.items():
        yield f"{name}{' (strongest)' if name == finding.strongest_control else ''}", f"{nats:.2f}"


def _evidence(one: Evidence) -> Iterator[str]:
    supported = "supported" if one.answer["supported"] else "not supported"
    lift = f"lift {figures.signed(one.answer['lift'])}, p = {figures.small(one.p_value)}"
    yield f"- Dialog {escaped(one.dialog)}: **{escaped(one.answer['text']) or '(empty)'}** ({supported}, {lift})"
    for turn in wording.turns(one.messages):
        secret = " (hidden from the decoder)" if turn["hidden"] else ""
        said = f"{escaped(turn['role'])}{secret}: {escaped(turn['content'])}"
        yield f"  - {said}" if not turn["left_out"] else f"  - {turn['left_out']} messages are not shown"


def _not_found(report: AuditOutcome) -> str:
    rows = [
        (
            one.question.text,
            one.severity,
            one.reason,
            f"{figures.signed(one.lift)} ({figures.interval(one.lift_interval)})",
            f"{figures.signed(one.effect)} ({figures.interval(one.effect_interval)})",
            figures.small(one.q_value),
            f"{one.n_supported} of {one.n_dialogs}",
        )
        for one in report.findings
        if not one.raised
    ]
    head = ("question", "severity", "why not", "lift", "against twins", "corrected p", "supported")
    return _table(head, rows) if rows else wording.nothing_left(report)


def _errors(errors: Sequence[tuple[str, str]]) -> str:
    lines = [f"- {escaped(name)}: {escaped(message)}" for name, message in errors[:N_ERRORS]]
    more = [f"- and {len(errors) - N_ERRORS} more"] if len(errors) > N_ERRORS else []
    return "\n".join([*lines, *more])


def _how_to_read(report: AuditOutcome) -> Iterator[str]:
    yield "\n".join(f"- {escaped(sentence)}" for sentence in wording.HOW_TO_READ)
    yield from (escaped(sentence) for sentence in wording.false_alarms(report) if sentence)
