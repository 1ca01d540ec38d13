"""What all renderings have in common: verdicts and rates in words."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers.reports import finding, report

from audit_lit.report.wording import facts, more_twins


@pytest.mark.parametrize("rendered", ["to_html", "to_markdown"])
def test_incomplete_and_clean_reports_say_so(rendered: str) -> None:
    clean = report(finding(raised=False))
    below = report(finding(severity="low"))
    incomplete = replace(clean, n_dialogs=6, errors=(("d5", "TargetError: too long"),))
    nothing = report(n_dialogs=2, errors=(("d1", "broken"), ("d2", "broken")))
    texts = [getattr(audited, rendered)() for audited in (clean, below, incomplete, nothing)]
    assert all("not a clean bill of health. It only says" in text for text in texts)
    assert "Nothing to report: audit of" in texts[0] and "Incomplete" not in texts[0]
    assert "Nothing at or above high: audit of" in texts[1]
    assert "Incomplete: audit of" in texts[2] and "2 of 6 dialogs were not read" in texts[2]
    assert "TargetError: too long" in texts[2]
    assert "2 of 2 dialogs were not read" in texts[3] and "No dialog was read" in texts[3]


def test_twins_beyond_those_of_the_recipe_are_explained() -> None:
    audited = report(finding(raised=False))
    assert facts(audited)["Neutral twins"] == "10 per dialog" and not more_twins(audited)
    audited.manifest["recipe"]["twins"] = 2
    assert facts(audited)["Neutral twins"] == "10 per dialog, since 2 are too few to tell a finding from chance"
    audited.manifest["recipe"]["twins"] = 10
    assert not more_twins(audited)


@pytest.mark.parametrize("rendered", ["to_html", "to_markdown"])
def test_rate_of_false_alarms_comes_with_its_decoder(rendered: str) -> None:
    measured = {"flagged": 2, "audits": 40, "dialogs": 320, "decoder": "a-decoder"}
    same = getattr(report(finding(), false_alarms=measured), rendered)()
    other = getattr(report(finding(), false_alarms={**measured, "decoder": "another"}), rendered)()
    for text in (same, other):
        assert "a false alarm in 5.0% of audits (95% Wilson interval 1.4% to 16.5%)" in text
    assert "measured with the decoder" not in same and "measured with the decoder another, not with a-decoder" in other
    assert "was not measured for this recipe" in getattr(report(finding()), rendered)()
