"""The figures of an evaluation document: as rows, and drawn beside their controls or against their cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit_lit.errors import AuditLitError

VALUES = ("top1", "auroc", "accuracy", "value", "confident_share")
"""Keys of a document that hold a measured value."""
MARKERS = "osD^v<>xP*"
CONTROL_MARKERS = "x+^vsd"


@dataclass(frozen=True)
class Figure:
    """One measured value with its 95% interval, beside its controls and the lift over the strongest of them."""

    name: str
    """Its place in the document, such as ``identification.matched``."""
    value: float
    interval: tuple[float, float] | None
    controls: dict[str, float]
    lift: float | None
    cost: float | None = None
    """The relative rise of perplexity that it comes at."""


def figures(document: dict[str, Any], name: str = "") -> Iterator[Figure]:
    """Yield the figures of a document, outermost first."""
    if key := next((key for key in VALUES if isinstance(document.get(key), float)), None):
        interval = document.get("interval")
        yield Figure(
            name=name if key == "value" else f"{name} {key}".strip(),
            value=document[key],
            interval=(interval[0], interval[1]) if interval else None,
            controls=document.get("controls", {}),
            lift=document.get("lift"),
            cost=document.get("cost"),
        )
    for part, content in document.items():
        if isinstance(content, dict) and part not in ("controls", "manifest"):
            yield from figures(content, f"{name}.{part}".lstrip("."))


def plot(document: dict[str, Any], path: Path) -> None:
    """Draw every figure with its interval beside its controls."""
    rows = list(figures(document))[::-1]
    canvas = _canvas(8.0, 1.2 + 0.45 * len(rows))
    axes = canvas.subplots()
    explained = next((row for row in rows if row.controls), None)  # the one whose controls the legend names
    for y, row in enumerate(rows):
        _draw_figure(axes, row, y, row is explained)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.grid(axis="x", alpha=0.3)
    axes.set_title(f"{document['suite']}: {document['manifest']['decoder']}", loc="left")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=5, frameon=False)
    canvas.savefig(path, dpi=150)


def _draw_figure(axes: Any, figure: Figure, y: int, is_explained: bool) -> None:
    if figure.interval:
        axes.plot(figure.interval, [y, y], color="black", linewidth=1.5)
    axes.plot([figure.value], [y], "o", color="black", label="decoder" if y == 0 else None)
    for marker, (name, value) in zip(CONTROL_MARKERS, figure.controls.items(), strict=False):
        axes.plot([value], [y], marker, color="tab:orange", alpha=0.8, label=name if is_explained else None)


def plot_curves(document: dict[str, Any], path: Path) -> None:
    """Draw effect against cost for every condition of every part that has curves."""
    parts = {name: part for name, part in document.items() if isinstance(part, dict) and "curves" in part}
    if not parts:
        raise AuditLitError("there is nothing to draw: no recipe was measured; debias needs CrowS-Pairs in --data.")
    names = list(dict.fromkeys(name for part in parts.values() for name in part["curves"]))
    styles = {name: {"color": f"C{index}", "marker": MARKERS[index % len(MARKERS)]} for index, name in enumerate(names)}
    canvas = _canvas(max(8.0, 5.5 * len(parts)), 4.5)
    handles: dict[str, Any] = {}
    for axes, (title, part) in zip(canvas.subplots(1, len(parts), squeeze=False)[0], parts.items(), strict=True):
        handles |= {name: _draw_curve(axes, curve, styles[name]) for name, curve in part["curves"].items()}
        axes.axhline(0, color="black", linewidth=0.6)
        axes.set(title=title, xlabel="rise of perplexity, %", ylabel="effect in the wanted direction")
        axes.grid(alpha=0.3)
    canvas.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5, frameon=False)
    canvas.savefig(path, dpi=150)


def _draw_curve(axes: Any, curve: list[dict[str, float]], style: dict[str, str]) -> Any:
    """Draw the points of a curve, from no effect at no cost if there are several, and return their line."""
    points = [(100 * point["cost"], point["effect"]) for point in curve]
    if len(points) > 1:
        points = [(0.0, 0.0), *points]
    (line,) = axes.plot(*zip(*points, strict=True), markersize=4, linewidth=1.2, **style)
    return line


def _canvas(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure as Canvas
    except ImportError as err:
        raise AuditLitError("a plot needs matplotlib; install it with pip install 'audit-lit[plot]'.") from err
    return Canvas(figsize=(width, height), layout="constrained")
