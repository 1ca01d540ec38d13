"""What the renderings of a report have in common: its headline, its figures and its caveats, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audit_lit.scan.findings import Finding

if TYPE_CHECKING:
    from audit_lit.scan.report import AuditReport

HOW_TO_READ = (
    "The lift says how much likelier an answer is, in nats per token, given the activations of its own dialog than given "
    "the strongest control.",
    "The controls are the same question about empty slots (no_activation), random activations (null) and the same "
    "visible turns after other hidden prompts (shuffled), or about the visible text alone (text_only; text_trained was "
    "trained to read it).",
    "A neutral twin is the same visible turns after a harmless system prompt or none; the corrected p-value is the chance "
    "that a dialog is just like its twins, and allows for the number of questions.",
    "Supported means that an answer depends on these activations, not that every word of it is right.",
    "Nothing found is not a clean bill of health: only these questions were asked, and the decoder does not see "
    "everything.",
)


@dataclass(frozen=True)
class Figure:
    """A row of a finding's table.

    Attributes:
        name: What was measured, with its unit.
        value: As text.
        interval: 95% interval; empty if there is none.
        needed: What a finding needs; empty if nothing depends on it.
    """

    name: str
    value: str
    interval: str = ""
    needed: str = ""


def headline(report: AuditReport) -> str:
    """Return the verdict in a few words."""
    if report.flagged:
        return "Flagged" if report.complete else "Flagged, and incomplete"
    if not report.complete:
        return "Incomplete"
    return f"Nothing at or above {report.fail_on}" if report.raised else "Nothing to report"


def caveats(report: AuditReport) -> list[str]:
    """Return what a reader must know before anything else."""
    found = []
    if missing := report.n_dialogs - report.n_read:
        found.append(f"Incomplete: {missing} of {report.n_dialogs} dialogs were not read; nothing is known about them.")
    if report.manifest["threshold"] is None:
        found.append("Nobody measured this decoder's threshold, so this audit could not raise anything.")
    if report.flagged:
        found.append("A finding is a reason to look closer. It does not prove that every word of an answer is right.")
    else:
        found.append("This is not a clean bill of health. It only says that these questions raised no alarm here.")
    return found


def facts(report: AuditReport) -> dict[str, str]:
    """Return what was audited with what, by name."""
    manifest = report.manifest
    return {
        "Target": manifest["target"]["name"],
        "Decoder": manifest["decoder"]["name"],
        "Dialogs read": f"{report.n_read} of {report.n_dialogs}",
        "Neutral twins": f"{manifest['n_twins']} per dialog, in {manifest['baseline']['name']}",
        "Recipe": manifest["recipe"]["name"],
        "Flags from": report.fail_on,
        "Seed": str(manifest["seed"]),
    }


def figures(finding: Finding, alpha: float) -> list[Figure]:
    """Return a finding's figures, each with what it takes to be raised."""
    needed = "not measured" if finding.threshold is None else f"above {finding.threshold:.2f}, interval above zero"
    name = f"lift over the strongest control ({finding.strongest_control}), nats per token"
    rows = [Figure(name, signed(finding.lift), interval(finding.lift_interval), needed)]
    if finding.p_value is not None:
        rows += _against_twins(finding, alpha)
    return [*rows, Figure("answers that are supported", f"{finding.n_supported} of {finding.n_dialogs}")]


def _against_twins(finding: Finding, alpha: float) -> list[Figure]:
    name = "expected answer less likely than in the neutral twins, nats per token"
    return [
        Figure(name, signed(finding.effect), interval(finding.effect_interval)),
        Figure("p-value of that difference", small(finding.p_value)),
        Figure("the same, corrected over the questions", small(finding.q_value), needed=f"at most {alpha:g}"),
        Figure("dialogs that stand out from all twins", f"{finding.n_standing_out} of {finding.n_dialogs}"),
    ]


def expected(finding: Finding) -> str | None:
    """Return what the answer would be where nothing is wrong; None if the question only describes."""
    text = finding.question.expected
    return "what the visible text suggests" if text == "{text}" else text


def false_alarms(report: AuditReport) -> tuple[str, str | None]:
    """Return how often the recipe flags neutral dialogs, and a warning if that was measured with another decoder."""
    measured: dict[str, Any] | None = report.manifest["recipe"].get("false_alarms")
    if not measured or not measured["audits"]:
        return "The rate of false alarms was not measured for this recipe.", None
    from scipy.stats import binomtest

    flagged, audits, decoder = measured["flagged"], measured["audits"], measured["decoder"]
    low, high = binomtest(flagged, audits).proportion_ci(method="wilson")
    said = (
        f"Of {audits} audits of neutral dialogs ({measured['dialogs']} dialogs in all), this recipe flagged {flagged}: "
        f"a false alarm in {flagged / audits:.1%} of audits (95% Wilson interval {low:.1%} to {high:.1%})."
    )
    ours = report.manifest["decoder"]["name"]
    other = f"That was measured with the decoder {decoder}, not with {ours}, whose rate may be another."
    return said, None if decoder == ours else other


def signed(value: float | None) -> str:
    """Return a difference in nats; a dash if there is none."""
    return "–" if value is None else f"{value:+.2f}"


def small(p_value: float | None) -> str:
    """Return a p-value; a dash if there is none."""
    return "–" if p_value is None else f"{p_value:.2g}"


def interval(ends: tuple[float, float] | list[float] | None) -> str:
    """Return an interval; a dash if there is none."""
    return "–" if ends is None else f"{ends[0]:+.2f} to {ends[1]:+.2f}"
