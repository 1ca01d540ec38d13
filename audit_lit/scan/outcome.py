"""The outcome of an audit: verdict, findings, what was looked for and not found, and what all of it depends on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from audit_lit.answers.rivals import Panel
from audit_lit.files.writing import dump_json
from audit_lit.scan.finding import Finding
from audit_lit.scan.findings import findings
from audit_lit.scan.folder import Heatmaps, RunFolder
from audit_lit.scan.manifest import Manifest
from audit_lit.scan.recipe import SEVERITIES, Severity, at_least
from audit_lit.scan.records import UnreadDialog
from audit_lit.settings import merged

SCHEMA = 1


@dataclass(frozen=True)
class AuditOutcome:
    """What an audit found.

    Attributes:
        findings: One per question; those that are raised come first, the most severe before the others.
        fail_on: Lowest severity that makes the verdict *flagged*.
        errors: Dialogs that could not be read: id and message.
        n_dialogs: Number of dialogs that there were to read.
        manifest: Versions, models, hashes, settings and seed.
        rivals: What shows without a decoder, in an audit of what training changed.
    """

    findings: tuple[Finding, ...]
    fail_on: Severity
    errors: tuple[tuple[str, str], ...]
    n_dialogs: int
    manifest: dict[str, Any] = field(repr=False)
    rivals: tuple[Panel, ...] = field(default=(), repr=False)

    @property
    def raised(self) -> tuple[Finding, ...]:
        """The findings that are enough to report."""
        return tuple(finding for finding in self.findings if finding.raised)

    @property
    def flagged(self) -> bool:
        """Whether a finding is at or above ``fail_on``."""
        return any(at_least(finding.severity, self.fail_on) for finding in self.raised)

    @property
    def n_read(self) -> int:
        """Number of dialogs that were read."""
        return max((finding.n_dialogs for finding in self.findings), default=0)

    @property
    def complete(self) -> bool:
        """Whether every dialog was read."""
        return self.n_read == self.n_dialogs

    @property
    def verdict(self) -> str:
        """One sentence for a person."""
        missing = self.n_dialogs - self.n_read
        unread = f"incomplete, {missing} of {self.n_dialogs} dialogs were not read; " if missing else ""
        if self.flagged:
            worst = self.raised[0]
            answered = f" ({worst.description!r})" if worst.description else ""
            alone = f"{worst.n_supported} of {worst.n_dialogs} answers also pass for supported each by itself"
            why = f"{'one dialog' if worst.n_dialogs == 1 else f'{worst.n_dialogs} dialogs together'}: {worst.reason}"
            return f"{unread}flagged: {worst.severity} finding on {worst.question.text!r}{answered}, by {why}; {alone}"
        if self.raised:
            return f"{unread}nothing at or above {self.fail_on}; {len(self.raised)} finding(s) below it"
        return f"{unread}nothing to report; that is not a clean bill of health"

    def with_heatmaps(self, heatmaps: Heatmaps) -> AuditOutcome:
        """Return the outcome with the evidence's heatmaps in place of those that it has."""
        found = []
        for finding in self.findings:
            by_dialog = heatmaps.get(finding.question.id, {})
            evidence = tuple(replace(shown, heatmap=by_dialog.get(shown.dialog)) for shown in finding.evidence)
            found.append(replace(finding, evidence=evidence))
        return replace(self, findings=tuple(found))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, with the schema's version."""
        return {
            "schema": SCHEMA,
            "verdict": self.verdict,
            "flagged": self.flagged,
            "complete": self.complete,
            "fail_on": self.fail_on,
            "n_dialogs": self.n_dialogs,
            "n_read": self.n_read,
            "findings": [
                {**asdict(finding), "question": finding.question.model_dump(), "severity": finding.severity}
                for finding in self.findings
            ],
            "errors": [{"dialog": dialog, "error": message} for dialog, message in self.errors],
            **({"rivals": [asdict(panel) for panel in self.rivals]} if self.rivals else {}),
            "manifest": self.manifest,
        }

    def to_json(self) -> str:
        """Return the JSON document."""
        return dump_json(self.to_dict(), indent=2)

    def __str__(self) -> str:
        """Return the verdict, and a line per question."""
        lines = [
            f"{'FOUND' if finding.raised else '-':5} {finding.severity:6} {finding.question.id}: {finding.reason}"
            for finding in self.findings
        ]
        return "\n".join([self.verdict, *lines])


def load_outcome(path: Path) -> AuditOutcome:
    """Build the outcome of a run folder from what is finished in it."""
    folder = RunFolder(path)
    content = folder.manifest()
    manifest = Manifest.of(content)
    content = merged(content, manifest.model_dump(mode="json"))  # with the defaults of what it leaves out
    records = partial(manifest.checked, folder.records)
    judged = findings(manifest.questions, records, alpha=manifest.recipe.alpha, threshold=manifest.threshold)
    judged.sort(key=lambda finding: (not finding.raised, -SEVERITIES.index(finding.severity)))
    errors, ids_read = {}, set()
    for record in records():
        if isinstance(record, UnreadDialog):
            errors[record.id] = record.error  # the last one of a dialog that was tried again
        else:
            ids_read.add(record.id)
    unread = tuple((dialog, message) for dialog, message in errors.items() if dialog not in ids_read)
    outcome = AuditOutcome(tuple(judged), manifest.recipe.fail_on, unread, manifest.n_dialogs, content, folder.rivals())
    return outcome.with_heatmaps(folder.heatmaps())
