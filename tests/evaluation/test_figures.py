"""The figures of a document as rows."""

from __future__ import annotations


def test_figures_are_found_wherever_they_stand() -> None:
    from audit_lit.evaluation.figures import Figure, figures

    document = {
        "suite": "x",
        "identification": {
            "top1": 0.5,
            "interval": [0.25, 0.75],
            "controls": {"null": 0.125, "value": 1.0},
            "lift": 0.375,
            "matched": {"top1": 1.0},
        },
        "names": {"value": 0.5, "cost": 0.1},
        "n": {"value": 3},  # a count is not a figure
        "manifest": {"value": 1.0},
    }
    assert list(figures(document)) == [
        Figure("identification top1", 0.5, (0.25, 0.75), {"null": 0.125, "value": 1.0}, 0.375),
        Figure("identification.matched top1", 1.0, None, {}, None),
        Figure("names", 0.5, None, {}, None, 0.1),
    ]
