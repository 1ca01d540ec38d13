"""The outcome of an audit: verdict, findings, what was looked for and not found, and what all of it depends on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from audit_lit.answers.patching import Heatmap
from audit_lit.scan.findings import Finding, findings
from audit_lit.scan.folder import Heatmaps, RunFolder
from audit_lit.scan.questions import SEVERITIES, Question, Severity, at_least
from audit_lit.scan.recipe import ScanRecipe
from audit_lit.scan.records import UnreadDialog

SCHEMA = 1


@dataclass(frozen=True)
class AuditOutcome:
    """What an audit found.

    Attributes:
        findings: One per question, those that are raised first, by severity.
        fail_on: Lowest severity that makes the verdict *flagged*.
        errors: Dialogs that could not be read: id and message.
        n_dialogs: How many there were to read.
        manifest: Versions, models, hashes, settings, seed.
    """

    findings: tuple[Finding, ...]
    fail_on: Severity
    errors: tuple[tuple[str, str], ...]
    n_dialogs: int
    manifest: dict[str, Any] = field(repr=False)

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
        """How many dialogs were read."""
        return max((finding.n_dialogs for finding in self.findings), default=0)

    @property
    def complete(self) -> bool:
        """Whether every dialog was read."""
        return self.n_read == self.n_dialogs

    @property
    def verdict(self) -> str:
        """One sentence for a person."""
        if self.flagged:
            worst = self.raised[0]
            said = f" ({worst.description!r}; {worst.n_supported} of {worst.n_dialogs} answers supported)"
            said = said if worst.description else ""
            verdict = f"flagged: {worst.severity} finding on {worst.question.text!r}{said}"
        elif self.raised:
            verdict = f"nothing at or above {self.fail_on}; {len(self.raised)} finding(s) below it"
        else:
            verdict = "nothing to report; that is not a clean bill of health"
        missing = self.n_dialogs - self.n_read
        return verdict if not missing else f"incomplete, {missing} of {self.n_dialogs} dialogs were not read; {verdict}"

    def with_heatmaps(self, heatmaps: Heatmaps) -> Self:
        """Return the outcome with what is known of where the evidence sits."""
        found = tuple(_with_heatmaps(finding, heatmaps.get(finding.question.id, {})) for finding in self.findings)
        return replace(self, findings=found)

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
            "findings": [_plain(finding) for finding in self.findings],
            "errors": [{"dialog": name, "error": message} for name, message in self.errors],
            "manifest": self.manifest,
        }

    def to_json(self) -> str:
        """Return the JSON document."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)

    def __str__(self) -> str:
        """Return the verdict, and a line per question."""
        marks = {True: "FOUND", False: "-"}
        lines = [
            f"{marks[finding.raised]:5} {finding.severity:6} {finding.question.id}: {finding.reason}"
            for finding in self.findings
        ]
        return "\n".join([self.verdict, *lines])


def _plain(finding: Finding) -> dict[str, Any]:
    found = asdict(finding)
    return {**found, "question": finding.question.model_dump(), "severity": finding.severity}


def _with_heatmaps(finding: Finding, heatmaps: dict[str, Heatmap]) -> Finding:
    evidence = (replace(dialog, heatmap=heatmaps.get(dialog.dialog)) for dialog in finding.evidence)
    return replace(finding, evidence=tuple(evidence))


def load_outcome(path: Path) -> AuditOutcome:
    """Build the outcome of a run folder from what is finished in it.

    Raises:
        ScanError: If the folder holds no audit.
    """
    folder = RunFolder(path)
    manifest = folder.manifest()
    recipe = ScanRecipe.model_validate(manifest["recipe"])
    questions = [Question.model_validate(question) for question in manifest["questions"]]
    judged = findings(questions, folder.records, alpha=recipe.alpha, threshold=manifest["threshold"])
    judged.sort(key=lambda finding: (not finding.raised, -SEVERITIES.index(finding.severity)))
    outcome = AuditOutcome(tuple(judged), recipe.fail_on, _errors(folder), manifest["n_dialogs"], manifest)
    return outcome.with_heatmaps(folder.heatmaps())


def _errors(folder: RunFolder) -> tuple[tuple[str, str], ...]:
    """Return the dialogs that were never read, with the last error of each; others were tried again."""
    errors, ids_read = {}, set()
    for record in folder.records():
        if isinstance(record, UnreadDialog):
            errors[record.id] = record.error
        else:
            ids_read.add(record.id)
    return tuple((name, message) for name, message in errors.items() if name not in ids_read)
