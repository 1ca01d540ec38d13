"""The places of the marks of a report's plots; the template draws them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from audit_lit.answers.patching import Heatmap
from audit_lit.scan.finding import Finding

N_POINTS = 200
"""Largest number of dots in a row."""
WIDTH, MARGIN, ROW = 400, 8, 44
"""Width of a plot, its margins, and the height of a row, in SVG units."""
GOLDEN = 0.618034
LEVELS = 6
"""Number of shades of a heatmap."""


@dataclass(frozen=True)
class Bar:
    """How likely the answers are under one condition: log-probability per token, and the same as 0-100%."""

    name: str
    nats: float
    percent: float
    strongest: bool = False
    """Whether it is the control that the lift is over."""


@dataclass(frozen=True)
class Strip:
    """One row of dots, in SVG units: the centre of each, the place of their mean, and the upper edge of the row."""

    label: str
    dots: tuple[tuple[float, float], ...]
    mean: float
    top: int


@dataclass(frozen=True)
class Distribution:
    """Scores of dialogs and of their neutral twins on one axis, with the place and label of each tick."""

    strips: tuple[Strip, ...]
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Cells:
    """A heatmap as a table."""

    layers: tuple[int, ...]
    rows: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    """For each token its text, and for each layer a CSS class and the figure."""
    top: float
    """Nats of the darkest cell."""
    whole: float
    """Nats of all states together."""


def bars(score: float, controls: dict[str, float]) -> list[Bar]:
    """Return a bar for the activations, and one for each control."""
    strongest = max(controls.values())
    rows = [("these activations", score, False), *((name, nats, nats == strongest) for name, nats in controls.items())]
    return [Bar(name, nats, 100 * math.exp(min(nats, 0.0)), is_strongest) for name, nats, is_strongest in rows]


def distribution(finding: Finding) -> Distribution:
    """Return the places of a finding's scores, with at most ``N_POINTS`` dots in a row."""
    rows = (("dialogs", finding.scores), ("neutral twins", finding.neutral_scores))
    low, high = min(0.0, *finding.scores, *finding.neutral_scores), max(*finding.scores, *finding.neutral_scores)
    step = _step(high - low)
    low, high = step * math.floor(low / step), step * max(math.ceil(high / step), math.floor(low / step) + 1)

    def place(value: float) -> float:
        return round(MARGIN + (WIDTH - 2 * MARGIN) * (value - low) / (high - low), 1)

    strips = tuple(_strip(name, values, place, ROW * row) for row, (name, values) in enumerate(rows))
    marks = [low + step * index for index in range(round((high - low) / step) + 1)]
    return Distribution(strips, tuple((place(mark), f"{mark:.10g}") for mark in marks))


def _strip(name: str, values: Sequence[float], place: Callable[[float], float], top: int) -> Strip:
    shown = _thinned(values)
    note = "" if len(shown) == len(values) else f", {len(shown)} shown"
    # Multiples of the golden ratio spread neighbours evenly over the row's height, and the same way each time.
    dots = tuple((place(value), round(top + 16 + 22 * (index * GOLDEN % 1), 1)) for index, value in enumerate(shown))
    return Strip(f"{name} (n = {len(values)}{note})", dots, place(sum(values) / len(values)), top)


def _thinned(values: Sequence[float]) -> list[float]:
    """Return at most ``N_POINTS`` of sorted values, evenly chosen, the first and the last among them."""
    if len(values) <= N_POINTS:
        return list(values)
    return [values[round(index * (len(values) - 1) / (N_POINTS - 1))] for index in range(N_POINTS)]


def _step(span: float) -> float:
    """Return a round distance between ticks that divides a span into about five parts."""
    rough = (span if span > 1e-9 else 1.0) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def cells(heatmap: Heatmap) -> Cells:
    """Return a heatmap as a table: a row per token, a column per layer."""
    top = max(abs(nats) for column in heatmap.nats for nats in column)
    rows = tuple(
        (token, tuple((_shade(nats, top), f"{nats:z.1f}") for nats in row))
        for token, row in zip(heatmap.tokens, zip(*heatmap.nats, strict=True), strict=True)
    )
    return Cells(heatmap.layers, rows, top, heatmap.whole)


def _shade(nats: float, top: float) -> str:
    """Return the CSS class of a cell: a gain or a loss, and its level."""
    level = round(LEVELS * abs(nats) / top) if top else 0
    return f"{'g' if nats > 0 else 'l'}{level}" if level else ""
