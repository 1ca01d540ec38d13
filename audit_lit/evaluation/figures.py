"""The figures of an evaluation document as rows, and as a plot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit_lit.errors import AuditLitError

VALUES = ("top1", "auroc", "accuracy", "value", "confident_share")


@dataclass(frozen=True)
class Figure:
    """One measured value beside its controls.

    Attributes:
        name: Where it stands in the document, such as ``identification.matched``.
        value: What the decoder reaches.
        interval: Its 95% interval, if there is one.
        controls: What each control reaches.
        lift: Over the strongest control, if the suite says.
        cost: Relative rise of perplexity that it comes at, if the suite says.
    """

    name: str
    value: float
    interval: tuple[float, float] | None
    controls: dict[str, float]
    lift: float | None
    cost: float | None = None


def figures(document: dict[str, Any], name: str = "") -> Iterator[Figure]:
    """Find the figures of a document, outermost first."""
    if key := next((key for key in VALUES if isinstance(document.get(key), float)), None):
        interval = document.get("interval")
        low_high = (interval[0], interval[1]) if interval else None
        label = name if key == "value" else f"{name} {key}".strip()
        rest = (document.get("controls", {}), document.get("lift"), document.get("cost"))
        yield Figure(label, document[key], low_high, *rest)
    for part, value in document.items():
        if isinstance(value, dict) and part not in ("controls", "manifest"):
            yield from figures(value, f"{name}.{part}".lstrip("."))


def plot(document: dict[str, Any], path: Path) -> None:
    """Draw every figure with its interval beside its controls.

    Raises:
        AuditLitError: If matplotlib is not installed.
    """
    rows = list(figures(document))[::-1]
    canvas = _canvas(8.0, 1.2 + 0.45 * len(rows))
    axes = canvas.subplots()
    explained = next((row for row in rows if row.controls), None)  # by the legend
    for y, row in enumerate(rows):
        if row.interval:
            axes.plot(row.interval, [y, y], color="black", linewidth=1.5)
        axes.plot([row.value], [y], "o", color="black", label="decoder" if y == 0 else None)
        for marker, (name, value) in zip("x+^vsd", row.controls.items(), strict=False):
            axes.plot([value], [y], marker, color="tab:orange", alpha=0.8, label=name if row is explained else None)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.grid(axis="x", alpha=0.3)
    axes.set_title(f"{document['suite']}: {document['manifest']['decoder']}", loc="left")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=5, frameon=False)
    canvas.savefig(path, dpi=150)


def plot_curves(document: dict[str, Any], path: Path) -> None:
    """Draw effect against cost for every condition of every part that has curves.

    Raises:
        AuditLitError: If matplotlib is not installed, or no part has curves.
    """
    parts = {name: one for name, one in document.items() if isinstance(one, dict) and "curves" in one}
    if not parts:
        raise AuditLitError("there is nothing to draw: no recipe was measured; debias needs CrowS-Pairs in --data.")
    names = list(dict.fromkeys(name for part in parts.values() for name in part["curves"]))
    styles = {name: {"color": f"C{at}", "marker": "osD^v<>xP*"[at % 10]} for at, name in enumerate(names)}
    canvas, handles = _canvas(max(8.0, 5.5 * len(parts)), 4.5), {}
    for axes, (title, part) in zip(canvas.subplots(1, len(parts), squeeze=False)[0], parts.items(), strict=True):
        for name, curve in part["curves"].items():
            points = [(100 * one["cost"], one["effect"]) for one in curve]
            points = points if len(points) == 1 else [(0.0, 0.0), *points]
            (handles[name],) = axes.plot(*zip(*points, strict=True), markersize=4, linewidth=1.2, **styles[name])
        axes.axhline(0, color="black", linewidth=0.6)
        axes.set(title=title, xlabel="rise of perplexity, %", ylabel="effect in the wanted direction")
        axes.grid(alpha=0.3)
    canvas.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5, frameon=False)
    canvas.savefig(path, dpi=150)


def _canvas(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure as Canvas
    except ImportError as err:
        raise AuditLitError("a plot needs matplotlib; install it with pip install 'audit-lit[plot]'.") from err
    return Canvas(figsize=(width, height), layout="constrained")
