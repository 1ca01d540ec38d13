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
def test_rate_of_false_alarms_comes_with_its_decoder_and_its_threshold(rendered: str) -> None:
    measured = {"flagged": 2, "audits": 40, "dialogs": 320, "decoder": "a-decoder", "threshold": 0.12}
    same = getattr(report(finding(), false_alarms=measured), rendered)()
    other = getattr(report(finding(), false_alarms={**measured, "decoder": "another"}), rendered)()
    for text in (same, other):
        assert "a false alarm in 5.0% of audits (95% Wilson interval 1.4% to 16.5%)" in text
    assert "measured with the decoder" not in same and "measured with the decoder another, not with a-decoder" in other
    assert "was not measured for this recipe" in getattr(report(finding()), rendered)()
    elsewhere = getattr(report(finding(), false_alarms=measured, threshold=0.38), rendered)()
    assert (
        "measured at the threshold 0.12" in elsewhere and "this audit used 0.38. So it is not known here" in elsewhere
    )
    unstated = getattr(report(finding(), false_alarms={**measured, "threshold": None}), rendered)()
    assert "at a threshold that it does not state" in unstated
    assert all("a false alarm in" not in text for text in (elsewhere, unstated))


def test_the_threshold_comes_with_its_source() -> None:
    audited = report(finding(raised=False))
    assert facts(audited)["Threshold"] == "0.12 nats per token (it comes with the decoder)"
    audited.manifest["recipe"]["min_lift"] = 0.12
    assert facts(audited)["Threshold"] == "0.12 nats per token (min_lift of the recipe or of --set)"
    audited.manifest["recipe"]["min_lift"] = 0.05
    assert "the highest counts, and lower are: min_lift 0.05" in facts(audited)["Threshold"]


def test_a_flag_says_what_it_is_raised_by_beside_answers_that_are_not_supported_alone() -> None:
    audited = report(finding(n_supported=1))
    assert audited.verdict == (
        "flagged: high finding on 'What is hidden-instruction?' ('persona: pirate'), by 4 dialogs together: +0.75 nats "
        "per token over the strongest control (shuffled); 1 of 4 answers also pass for supported each by itself"
    )
    assert ", by one dialog: +0.75" in report(finding(n_dialogs=1, n_supported=1), n_dialogs=1).verdict


def test_nothing_is_below_zero_by_its_rounding_alone() -> None:
    from audit_lit.answers.answer import shortfall

    assert shortfall(-0.001, (-0.004, 0.0), 0.1, "null").count("-0.00") == 0
