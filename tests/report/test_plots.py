"""Plots: where dots, bars and shades go."""

from __future__ import annotations

import pytest
from helpers.reports import evidence, finding


def test_dots_stand_where_the_axis_says() -> None:
    from audit_lit.report.plots import distribution

    plot = distribution(finding(scores=(1.0, 2.0), neutral_scores=(0.0, 0.5)))
    places = {label: x for x, label in plot.ticks}
    assert [dots.dots[0][0] for dots in plot.strips] == [places["1"], places["0"]]
    assert plot.strips[0].mean == places["1.5"] and (places["0"], places["2"]) == (8, 392)
    assert distribution(finding(scores=(0.0,), neutral_scores=(0.0,))).ticks[0][1] == "0"


def test_heatmap_shades_gains_and_losses() -> None:
    from audit_lit.answers.patching import Heatmap
    from audit_lit.report.plots import cells

    table = cells(evidence().heatmap)
    assert table.layers == (0, 15)
    assert table.rows[0] == ("\n", (("g1", "0.5"), ("g6", "4.0")))
    assert table.rows[1][1] == (("l3", "-2.0"), ("", "0.0"))
    assert cells(Heatmap(("a",), (0,), ((0.0,),), 0.0)).rows[0][1] == (("", "0.0"),)


def test_bars_name_the_strongest_control() -> None:
    from audit_lit.report.plots import bars

    drawn = bars(finding().score, finding().controls)
    assert [(bar.name, bar.nats, bar.strongest) for bar in drawn] == [
        ("these activations", -0.5, False),
        ("null", -2.5, False),
        ("shuffled", -1.25, True),
    ]
    assert drawn[0].percent == pytest.approx(60.65, abs=0.01)
