"""An audit report as JUnit XML, which continuous integration shows as tests: one for each question."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from audit_lit.display.inert import one_line
from audit_lit.report import wording
from audit_lit.scan.finding import Finding
from audit_lit.scan.outcome import AuditOutcome
from audit_lit.scan.recipe import at_least


def to_junit(report: AuditOutcome) -> str:
    """Return a report as JUnit XML.

    Each question is a test case, which fails where its finding is raised at or above ``fail_on``. Dialogs that were not
    read are test cases with an error: an incomplete audit does not pass.
    """
    suite = Element("testsuite", name="audit-lit")
    properties = SubElement(suite, "properties")
    for name, value in {"Verdict": report.verdict, **wording.facts(report)}.items():
        SubElement(properties, "property", name=name.lower().replace(" ", "_"), value=one_line(value))
    for finding in report.findings:
        _question(suite, report, finding)
    for dialog, message in _unread(report):
        case = _case(suite, report, f"dialog {dialog}")
        SubElement(case, "error", message=one_line(message), type="unread")
    for attribute, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error")):
        suite.set(attribute, str(len(list(suite.iter(tag)))))
    indent(suite)
    return tostring(suite, encoding="unicode") + "\n"


def _case(suite: Element, report: AuditOutcome, name: str) -> Element:
    group = f"audit-lit.{report.manifest['recipe']['name']}"
    return SubElement(suite, "testcase", classname=one_line(group), name=one_line(name))


def _question(suite: Element, report: AuditOutcome, finding: Finding) -> None:
    case = _case(suite, report, finding.question.id)
    result = one_line(f"{finding.description} ({finding.reason})" if finding.description else finding.reason)
    if finding.raised and at_least(finding.severity, report.fail_on):
        failure = SubElement(case, "failure", message=result, type=finding.severity)
        failure.text = one_line(finding.question.text)
    else:
        SubElement(case, "system-out").text = result


def _unread(report: AuditOutcome) -> list[tuple[str, str]]:
    """Return the dialogs that were not read, and why; those that an interrupted run never came to count together."""
    n_late = report.n_dialogs - report.n_read - len(report.errors)
    if n_late <= 0:
        return list(report.errors)
    return [*report.errors, (f"and {n_late} more", "The run ended before they were read; run it again to go on.")]
