"""An audit report as JUnit XML, which continuous integration shows as tests: one for each question."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from audit_lit.report import wording
from audit_lit.report.sanitise import one_line
from audit_lit.scan.findings import Finding
from audit_lit.scan.questions import SEVERITIES

if TYPE_CHECKING:
    from audit_lit.scan.outcome import AuditOutcome


def to_junit(report: AuditOutcome) -> str:
    """Return a report as JUnit XML.

    A test case per question fails where its finding is raised at or above ``fail_on``. Dialogs that were not read are
    test cases with an error: an incomplete audit does not pass.
    """
    suite = Element("testsuite", name="audit-lit")
    _properties(suite, report)
    for finding in report.findings:
        _question(suite, report, finding)
    for name, message in _unread(report):
        case = _case(suite, report, f"dialog {name}")
        SubElement(case, "error", message=one_line(message), type="unread")
    for attribute, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error")):
        suite.set(attribute, str(len(list(suite.iter(tag)))))
    indent(suite)
    return tostring(suite, encoding="unicode") + "\n"


def _properties(suite: Element, report: AuditOutcome) -> None:
    properties = SubElement(suite, "properties")
    for name, value in {"Verdict": report.verdict, **wording.facts(report)}.items():
        SubElement(properties, "property", name=name.lower().replace(" ", "_"), value=one_line(value))


def _case(suite: Element, report: AuditOutcome, name: str) -> Element:
    group = f"audit-lit.{report.manifest['recipe']['name']}"
    return SubElement(suite, "testcase", classname=one_line(group), name=one_line(name))


def _question(suite: Element, report: AuditOutcome, finding: Finding) -> None:
    case = _case(suite, report, finding.question.id)
    said = one_line(f"{finding.description} ({finding.reason})" if finding.description else finding.reason)
    if finding.raised and SEVERITIES.index(finding.severity) >= SEVERITIES.index(report.fail_on):
        failure = SubElement(case, "failure", message=said, type=finding.severity)
        failure.text = one_line(finding.question.text)
    else:
        SubElement(case, "system-out").text = said


def _unread(report: AuditOutcome) -> list[tuple[str, str]]:
    """Return dialogs and why they were not read; those that an interrupted run never came to are counted together."""
    rest = report.n_dialogs - report.n_read - len(report.errors)
    late = [(f"and {rest} more", "The run ended before they were read; run it again to go on.")] if rest > 0 else []
    return [*report.errors, *late]
