"""An audit report as Markdown, for a pull request or a chat.

Model text is untrusted. It is made inert, put on one line and escaped, so that it cannot become markup, a link, a table
cell of its own or a mention of somebody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from audit_lit.display.inert import one_line
from audit_lit.report import figures, wording
from audit_lit.scan.finding import Evidence, Finding
from audit_lit.scan.outcome import AuditOutcome

CHARS = 500
"""Number of characters of each text that are shown."""
N_ERRORS = 20
"""Number of unread dialogs that are listed."""
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
SPECIAL = re.compile(r"[\\`*_{}\[\]#|~$^]")
LINKS = re.compile(r"(?<=@)|(?<=:)(?=//)|(?<=www)(?=\.)|(?<=#)(?=\d)", re.IGNORECASE)
"""Where GitHub would make a link or notify somebody, if no character of no width stood there."""
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
    for panel in report.rivals:
        blocks += [f"## Without a decoder: {escaped(panel.name)}", escaped(panel.about), _table(("", ""), panel.rows)]
    if report.errors:
        blocks += ["## Dialogs that were not read", _errors(report.errors)]
    blocks += ["## How to read this", "\n".join(f"- {escaped(sentence)}" for sentence in wording.HOW_TO_READ)]
    blocks += [escaped(sentence) for sentence in wording.false_alarms(report) if sentence]
    return "\n\n".join(blocks) + "\n"


def escaped(text: str) -> str:
    """Return text that shows as itself wherever it is put in a line of Markdown."""
    marked = LINKS.sub("\0", one_line(text, CHARS).strip())  # inert text holds no NUL
    entities = re.sub("[&<>]", lambda match: ENTITIES[match[0]], marked)
    return SPECIAL.sub(r"\\\g<0>", entities).replace("\0", NO_WIDTH)


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
    yield "\n".join(line for evidence in finding.evidence for line in _evidence(evidence))


def _likelihoods(finding: Finding) -> Iterator[tuple[str, str]]:
    yield "these activations", f"{finding.score:z.2f}"
    for name, nats in finding.controls.items():
        yield f"{name}{' (strongest)' if name == finding.strongest_control else ''}", f"{nats:z.2f}"


def _evidence(evidence: Evidence) -> Iterator[str]:
    answer = evidence.answer
    supported = "supported" if answer.supported else "not supported"
    lift = f"lift {figures.signed(answer.lift)}, p = {figures.small(evidence.p_value)}"
    yield f"- Dialog {escaped(evidence.dialog)}: **{escaped(answer.text) or '(empty)'}** ({supported}, {lift})"
    for turn in wording.turns(evidence.messages):
        role = f"{escaped(turn.role)}{' (hidden from the decoder)' if turn.hidden else ''}"
        left_out = f"{turn.left_out} messages are not shown"
        yield f"  - {left_out if turn.left_out else f'{role}: {escaped(turn.content)}'}"


def _not_found(report: AuditOutcome) -> str:
    rows = [
        (
            finding.question.text,
            finding.severity,
            finding.reason,
            f"{figures.signed(finding.lift)} ({figures.interval(finding.lift_interval)})",
            f"{figures.signed(finding.effect)} ({figures.interval(finding.effect_interval)})",
            figures.small(finding.q_value),
            f"{finding.n_supported} of {finding.n_dialogs}",
        )
        for finding in report.findings
        if not finding.raised
    ]
    head = ("question", "severity", "why not", "lift", "against twins", "corrected p", "supported")
    return _table(head, rows) if rows else wording.nothing_left(report)


def _errors(errors: Sequence[tuple[str, str]]) -> str:
    lines = [f"- {escaped(dialog)}: {escaped(message)}" for dialog, message in errors[:N_ERRORS]]
    left_out = [f"- and {len(errors) - N_ERRORS} more"] if len(errors) > N_ERRORS else []
    return "\n".join([*lines, *left_out])
