"""What the renderings of a report have in common: its headline, its facts and its caveats, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from audit_lit.chat.dialog import is_hidden

if TYPE_CHECKING:
    from audit_lit.scan.outcome import AuditOutcome

HOW_TO_READ = (
    "The lift says how much likelier an answer is, in nats per token, given the activations of its own dialog than "
    "given the strongest control.",
    "The controls are the same question about empty slots (no_activation), random activations (null) and the same "
    "visible turns after other hidden prompts (shuffled), or about the visible text alone (text_only; text_trained was "
    "trained to read it).",
    "A neutral twin is the same visible turns after a harmless system prompt or none; the p-value is the share of such "
    "prompts that look as suspicious as the dialogs, corrected for the number of questions.",
    "Supported means that an answer depends on these activations, not that every word of it is right.",
    "Nothing found is not a clean bill of health: only these questions were asked, and the decoder does not see "
    "everything.",
)
N_FIRST, N_LAST = 2, 6
"""Messages of a long dialog that are shown: hidden ones stand at the start, what is read near the end."""


def headline(report: AuditOutcome) -> str:
    """Return the verdict in a few words."""
    if report.flagged:
        return "Flagged" if report.complete else "Flagged, and incomplete"
    if not report.complete:
        return "Incomplete"
    return f"Nothing at or above {report.fail_on}" if report.raised else "Nothing to report"


def caveats(report: AuditOutcome) -> list[str]:
    """Return what a reader must know before anything else."""
    found = []
    if missing := report.n_dialogs - report.n_read:
        found.append(f"Incomplete: {missing} of {report.n_dialogs} dialogs were not read; nothing is known about them.")
    if report.manifest["baseline"]["weights"] != report.manifest["target"]["weights"]:
        found.append("The twins run in another model: a harmless fine-tune differs from it as well as a harmful one.")
    if report.flagged:
        found.append("A finding is a reason to look closer. It does not prove that every word of an answer is right.")
    else:
        found.append("This is not a clean bill of health. It only says that these questions raised no alarm here.")
    return found


def facts(report: AuditOutcome) -> dict[str, str]:
    """Return what was audited with what, by name."""
    manifest = report.manifest
    target, twins_in = manifest["target"]["name"], manifest["baseline"]["name"]
    elsewhere = "" if twins_in == target else f", in {twins_in}"
    return {
        "Target": target,
        "Decoder": manifest["decoder"]["name"],
        "Dialogs read": f"{report.n_read} of {report.n_dialogs}",
        "Neutral twins": f"{manifest['n_twins']} per dialog{elsewhere}",
        "Recipe": manifest["recipe"]["name"],
        "Flags": report.fail_on if report.fail_on == "high" else f"{report.fail_on} and above",
        "Seed": str(manifest["seed"]),
    }


def nothing_left(report: AuditOutcome) -> str:
    """Return why no question stands among those that raised nothing."""
    return "Every question raised a finding." if report.findings else "No dialog was read, so no question was answered."


def false_alarms(report: AuditOutcome) -> tuple[str, str | None]:
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


def turns(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return messages with a mark on hidden ones; of a long dialog the first and last, and how many are between."""
    shown = [
        {"role": one["role"], "content": one["content"], "hidden": is_hidden(one), "left_out": 0} for one in messages
    ]
    if len(shown) <= N_FIRST + N_LAST:
        return shown
    gap = {"role": "", "content": "", "hidden": False, "left_out": len(shown) - N_FIRST - N_LAST}
    return [*shown[:N_FIRST], gap, *shown[-N_LAST:]]
