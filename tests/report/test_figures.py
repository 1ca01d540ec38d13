"""Figures of a finding."""

from __future__ import annotations

from helpers.reports import finding, report


def test_figures_come_with_what_is_needed() -> None:
    from audit_lit.report.figures import figures

    assert [(row.value, row.interval, row.needed) for row in figures(finding(), 0.05)] == [
        ("+0.75", "+0.50 to +1.00", "above 0.12, interval above zero"),
        ("+1.50", "+1.25 to +1.75", ""),
        ("0.001", "", ""),
        ("0.002", "", "at most 0.05"),
        ("2 of 4", "", ""),
        ("3 of 4", "", ""),
    ]
    describes = finding(p_value=None, q_value=None, effect=None, effect_interval=None, scores=(), neutral_scores=())
    assert len(figures(describes, 0.05)) == 2 and "<svg" not in report(describes).to_html()
