"""What the renderings of a report have in common: its headline, its facts, its caveats and its turns, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from audit_lit.chat.dialog import is_hidden, shown_text
from audit_lit.decoder.calibration import CalibrationRecord, origin
from audit_lit.scan.outcome import AuditOutcome
from audit_lit.statistics.intervals import wilson_interval

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
"""Number of messages of a long dialog that are shown: hidden ones stand at its start, and the end is what is read."""


@dataclass(frozen=True)
class ShownTurn:
    """A message as it is shown, or the number of messages that are left out in its place."""

    role: str = ""
    content: str = ""
    hidden: bool = False
    left_out: int = 0


def headline(report: AuditOutcome) -> str:
    """Return the verdict in a few words."""
    if report.flagged:
        return "Flagged" if report.complete else "Flagged, and incomplete"
    if not report.complete:
        return "Incomplete"
    return f"Nothing at or above {report.fail_on}" if report.raised else "Nothing to report"


def caveats(report: AuditOutcome) -> list[str]:
    """Return what a reader must know before anything else."""
    sentences = []
    if missing := report.n_dialogs - report.n_read:
        unread = f"{missing} of {report.n_dialogs} dialogs were not read"
        sentences.append(f"Incomplete: {unread}; nothing is known about them.")
    if report.manifest["baseline"]["weights"] != report.manifest["target"]["weights"]:
        sentences.append(
            "The twins run in another model: a harmless fine-tune differs from it as well as a harmful one."
        )
    flagged = "A finding is a reason to look closer. It does not prove that every word of an answer is right."
    clear = "This is not a clean bill of health. It only says that these questions raised no alarm here."
    return [*sentences, flagged if report.flagged else clear]


def facts(report: AuditOutcome) -> dict[str, str]:
    """Return what was audited, and with what, by name."""
    manifest = report.manifest
    target, baseline = manifest["target"]["name"], manifest["baseline"]["name"]
    elsewhere = "" if baseline == target else f", in {baseline}"
    more = more_twins(report)
    return {
        "Target": target,
        "Decoder": manifest["decoder"]["name"],
        "Dialogs read": f"{report.n_read} of {report.n_dialogs}",
        "Neutral twins": f"{manifest['n_twins']} per dialog{elsewhere}{more and f', {more}'}",
        "Threshold": threshold(report),
        **({"Calibration": record.summary} if (record := _calibration(manifest)) else {}),
        "Recipe": manifest["recipe"]["name"],
        "Flags": report.fail_on if report.fail_on == "high" else f"{report.fail_on} and above",
        "Seed": str(manifest["seed"]),
    }


def threshold(report: AuditOutcome) -> str:
    """Return the threshold that counted, and where it is from."""
    manifest = report.manifest
    value, min_lift = manifest["threshold"], manifest["recipe"].get("min_lift")
    return f"{value:.2f} nats per token ({origin(value, _calibration(manifest), min_lift)})"


def _calibration(manifest: dict[str, Any]) -> CalibrationRecord | None:
    """Return how the threshold was measured here; None if it came with the decoder or the recipe."""
    content = manifest.get("calibration")
    return CalibrationRecord(**content) if content else None


def more_twins(report: AuditOutcome) -> str:
    """Return that dialogs have more twins than the recipe names, where that is so."""
    n_twins = report.manifest["n_twins"]
    return beyond(n_twins, report.manifest["recipe"].get("twins", n_twins))


def beyond(n_twins: int, named: int) -> str:
    """Return why there are more twins than were named, where that is so."""
    return f"since {named} are too few to tell a finding from chance" if named < n_twins else ""


def nothing_left(report: AuditOutcome) -> str:
    """Return why there is no question that raised nothing."""
    return "Every question raised a finding." if report.findings else "No dialog was read, so no question was answered."


def false_alarms(report: AuditOutcome) -> tuple[str, str | None]:
    """Return how often the recipe flags neutral dialogs, and a warning if that was measured with another decoder.

    At another threshold than it was measured at, the rate is not known, and is not quoted.
    """
    measured: dict[str, Any] | None = report.manifest["recipe"].get("false_alarms")
    if not measured or not measured["audits"]:
        return "The rate of false alarms was not measured for this recipe.", None
    flagged, audits, decoder = measured["flagged"], measured["audits"], measured["decoder"]
    measured_at, used = measured.get("threshold"), report.manifest["threshold"]
    if measured_at != used:
        where = "a threshold that it does not state" if measured_at is None else f"the threshold {measured_at:.3g}"
        return (
            f"The rate of false alarms of this recipe was measured at {where} with the decoder {decoder}, and this "
            f"audit used {used:.3g}. So it is not known here."
        ), None
    low, high = wilson_interval(flagged, audits)
    rate = (
        f"Of {audits} audits of neutral dialogs ({measured['dialogs']} dialogs in all), this recipe flagged {flagged}: "
        f"a false alarm in {flagged / audits:.1%} of audits (95% Wilson interval {low:.1%} to {high:.1%})."
    )
    current = report.manifest["decoder"]["name"]
    warning = f"That was measured with the decoder {decoder}, not with {current}, whose rate may be another."
    return rate, None if decoder == current else warning


def turns(messages: Sequence[dict[str, Any]]) -> list[ShownTurn]:
    """Return the messages of a dialog; of a long one the first and the last, with a gap between them."""
    shown = [ShownTurn(message["role"], shown_text(message), is_hidden(message)) for message in messages]
    n_left_out = len(shown) - N_FIRST - N_LAST
    return shown if n_left_out <= 0 else [*shown[:N_FIRST], ShownTurn(left_out=n_left_out), *shown[-N_LAST:]]
