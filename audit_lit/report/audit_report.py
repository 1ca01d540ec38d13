"""The report of an audit: its outcome, with all of its renderings."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path

from audit_lit.errors import ScanError
from audit_lit.files.paths import as_path
from audit_lit.report.html import to_html
from audit_lit.report.junit import to_junit
from audit_lit.report.markdown import to_markdown
from audit_lit.scan.outcome import AuditOutcome, load_outcome


@dataclass(frozen=True)
class AuditReport(AuditOutcome):
    """What an audit found (see ``AuditOutcome``), to read, to send and to gate a pipeline with."""

    @classmethod
    def of(cls, outcome: AuditOutcome) -> AuditReport:
        """Return the report of an outcome."""
        return cls(**vars(outcome))

    def to_html(self) -> str:
        """Return one self-contained page."""
        return to_html(self)

    def to_markdown(self) -> str:
        """Return a Markdown document."""
        return to_markdown(self)

    def to_junit(self) -> str:
        """Return JUnit XML: a test case per question, failed where a finding is at or above ``fail_on``."""
        return to_junit(self)

    def _repr_html_(self) -> str:
        """Return the page in a frame of its own, so that its style leaves a notebook's alone."""
        page = html.escape(self.to_html())
        return f'<iframe sandbox srcdoc="{page}" style="width:100%;height:45rem;border:0"></iframe>'


def load_report(path: str | Path) -> AuditReport:
    """Build the report of a run folder from what is finished in it.

    Raises:
        ScanError: If it is no run folder, or holds something that no audit wrote.
    """
    return AuditReport.of(load_outcome(as_path(path, ScanError, "the folder of an audit")))
