"""JUnit XML: which test cases fail, and which are errors."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

from helpers.reports import finding, hostile, report


def test_junit_fails_where_a_finding_is_enough() -> None:
    findings = (finding("one"), finding("two", severity="medium"), finding("three", raised=False))
    names = {}
    for fail_on in ("high", "medium"):
        suite = ElementTree.fromstring(report(*findings, fail_on=fail_on).to_junit())
        names[fail_on] = [case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None]
        counts = [suite.get(name) for name in ("tests", "failures", "errors")]
        assert counts == ["3", str(len(names[fail_on])), "0"]
    assert names == {"high": ["one"], "medium": ["one", "two"]}
    failure = suite.find("testcase/failure")
    assert failure is not None and failure.get("type") == "high"
    assert failure.get("message") == "persona: pirate (+0.75 nats per token over the strongest control (shuffled))"
    properties = {element.get("name"): element.get("value", "") for element in suite.iter("property")}
    assert properties["target"] == "a-target" and properties["decoder"] == "a-decoder"
    assert properties["verdict"].startswith("flagged")


def test_junit_counts_what_was_not_read_as_errors() -> None:
    suite = ElementTree.fromstring(replace(hostile(), n_dialogs=9).to_junit())
    errors = [case.get("name", "") for case in suite.iter("testcase") if case.find("error") is not None]
    assert len(errors) == 2 and "red" in errors[0] and errors[1] == "dialog and 4 more"
    assert suite.get("errors") == "2"
