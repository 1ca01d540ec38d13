"""The figures of a document as rows; what is drawn of them, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


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


PNG = b"\x89PNG"


def test_figures_are_drawn_beside_their_controls(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from audit_lit.evaluation.figures import plot

    figure = {"value": 0.5, "interval": [0.4, 0.6], "controls": {"null": 0.1, "shuffled": 0.2}}
    document = {"suite": "x", "manifest": {"decoder": "d"}, "names": figure, "bare": {"value": 0.25}}
    plot(document, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(PNG)


def test_curves_start_from_nothing_unless_they_have_one_point(tmp_path: Path, monkeypatch: Any) -> None:
    figure = pytest.importorskip("matplotlib.figure")
    from audit_lit.evaluation import figures

    canvases: list[Any] = []

    def canvas(width: float, height: float) -> Any:
        canvases.append(figure.Figure(figsize=(width, height), layout="constrained"))
        return canvases[-1]

    monkeypatch.setattr(figures, "_canvas", canvas)
    curves = {
        "vector": [{"cost": 0.1, "effect": 2.0}, {"cost": 0.2, "effect": 3.0}],
        "prompting": [{"cost": 0.3, "effect": 1.0}],
    }
    figures.plot_curves({"persona": {"curves": curves}, "manifest": {}}, tmp_path / "plot.png")
    lines = canvases[0].axes[0].lines
    assert [line.get_xydata().round(6).tolist() for line in lines[:2]] == [
        [[0, 0], [10, 2], [20, 3]],
        [[30, 1]],
    ]
    assert (tmp_path / "plot.png").read_bytes().startswith(PNG)


def test_what_cannot_be_drawn_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    import sys

    from audit_lit.errors import AuditLitError
    from audit_lit.evaluation.figures import plot, plot_curves

    with pytest.raises(AuditLitError, match="nothing to draw: no recipe was measured"):
        plot_curves({"manifest": {}}, tmp_path / "curves.png")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(AuditLitError, match="needs matplotlib; install it with pip install"):
        plot({"suite": "x", "manifest": {"decoder": "d"}, "a": {"value": 1.0}}, tmp_path / "plot.png")
