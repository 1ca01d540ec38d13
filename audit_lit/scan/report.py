"""The report of an audit: verdict, findings, what was looked for and not found, and what all of it depends on."""

from __future__ import annotations

import html
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from audit_lit.scan.findings import Finding, findings
from audit_lit.scan.folder import RunFolder
from audit_lit.scan.questions import SEVERITIES, Question, Severity
from audit_lit.scan.recipe import ScanRecipe

SCHEMA = 1


@dataclass(frozen=True)
class AuditReport:
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
        return any(SEVERITIES.index(one.severity) >= SEVERITIES.index(self.fail_on) for one in self.raised)

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

    def with_heatmaps(self, heatmaps: dict[str, dict[str, Any]]) -> AuditReport:
        """Return the report with what is known of where the evidence sits, by question and dialog."""
        found = []
        for one in self.findings:
            known = heatmaps.get(one.question.id, {})
            evidence = tuple(replace(some, heatmap=known.get(some.dialog)) for some in one.evidence)
            found.append(replace(one, evidence=evidence))
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
            "findings": [_plain(finding) for finding in self.findings],
            "errors": [{"dialog": name, "error": message} for name, message in self.errors],
            "manifest": self.manifest,
        }

    def to_json(self) -> str:
        """Return the JSON document."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)

    def to_html(self) -> str:
        """Return one self-contained page."""
        from audit_lit.scan.html import to_html

        return to_html(self)

    def to_markdown(self) -> str:
        """Return a Markdown document."""
        from audit_lit.scan.markdown import to_markdown

        return to_markdown(self)

    def to_junit(self) -> str:
        """Return JUnit XML: a test case per question, failed where a finding is at or above ``fail_on``."""
        from audit_lit.scan.junit import to_junit

        return to_junit(self)

    def _repr_html_(self) -> str:
        """Return the page in a frame of its own, so that its style leaves a notebook's alone."""
        page = html.escape(self.to_html())
        return f'<iframe sandbox srcdoc="{page}" style="width:100%;height:45rem;border:0"></iframe>'

    def __str__(self) -> str:
        """Return the verdict, and a line per question."""
        marks = {True: "FOUND", False: "-"}
        lines = [f"{marks[one.raised]:5} {one.severity:6} {one.question.id}: {one.reason}" for one in self.findings]
        return "\n".join([self.verdict, *lines])


def _plain(finding: Finding) -> dict[str, Any]:
    found = asdict(finding)
    return {**found, "question": finding.question.model_dump(), "severity": finding.severity}


def load_report(path: Path) -> AuditReport:
    """Build the report of a run folder from what is finished in it.

    Raises:
        ScanError: If the folder holds no audit.
    """
    folder = RunFolder(path)
    manifest = folder.manifest()
    recipe = ScanRecipe.model_validate(manifest["recipe"])
    questions = [Question.model_validate(one) for one in manifest["questions"]]
    found = findings(questions, folder.records, alpha=recipe.alpha, threshold=manifest["threshold"])
    found.sort(key=lambda one: (not one.raised, -SEVERITIES.index(one.severity)))
    failed, read = {}, set()
    for record in folder.records():
        if "error" in record:
            failed[record["id"]] = record["error"]
        else:
            read.add(record["id"])
    errors = tuple((name, message) for name, message in failed.items() if name not in read)  # others were tried again
    report = AuditReport(tuple(found), recipe.fail_on, errors, manifest["n_dialogs"], manifest)
    return report.with_heatmaps(folder.heatmaps())
