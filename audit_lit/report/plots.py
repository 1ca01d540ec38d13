"""Where the marks of a report's plots go; the template draws them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from audit_lit.scan.findings import Finding

N_POINTS = 200
WIDTH = 400
MARGIN = 8
ROW = 44
GOLDEN = 0.618034
LEVELS = 6


@dataclass(frozen=True)
class Bar:
    """How likely the answers are under one condition.

    Attributes:
        name: The condition.
        nats: Log-probability per token.
        percent: The same as a probability, 0-100: e to the nats.
        strongest: Whether it is the control that the lift is over.
    """

    name: str
    nats: float
    percent: float
    strongest: bool = False


@dataclass(frozen=True)
class Strip:
    """One row of dots.

    Attributes:
        label: Whose scores.
        dots: Places of their centres.
        mean: Where the mean is.
        top: Upper edge of the row.
    """

    label: str
    dots: tuple[tuple[float, float], ...]
    mean: float
    top: int


@dataclass(frozen=True)
class Distribution:
    """Scores of dialogs and of their neutral twins on one axis.

    Attributes:
        strips: A row of dots for each of the two.
        ticks: Place and label of each mark of the axis.
    """

    strips: tuple[Strip, ...]
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Cells:
    """A heatmap as a table.

    Attributes:
        layers: Head of each column.
        rows: Per token its text, and for each layer a CSS class and the figure.
        top: Nats of the darkest cell.
        whole: Nats of all states together.
    """

    layers: tuple[int, ...]
    rows: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    top: float
    whole: float


def bars(own: float, controls: dict[str, float]) -> list[Bar]:
    """Return a bar for the activations, and one for each control."""
    most = max(controls.values())
    rest = [Bar(name, nats, 100 * math.exp(min(nats, 0.0)), nats == most) for name, nats in controls.items()]
    return [Bar("these activations", own, 100 * math.exp(min(own, 0.0))), *rest]


def distribution(finding: Finding) -> Distribution:
    """Return where the scores of a finding go, at most ``N_POINTS`` dots a row."""
    rows = (("dialogs", finding.scores), ("neutral twins", finding.neutral_scores))
    low, high = min(0.0, *finding.scores, *finding.neutral_scores), max(*finding.scores, *finding.neutral_scores)
    step = _step(high - low)
    low, high = step * math.floor(low / step), step * max(math.ceil(high / step), math.floor(low / step) + 1)

    def place(value: float) -> float:
        return round(MARGIN + (WIDTH - 2 * MARGIN) * (value - low) / (high - low), 1)

    strips = tuple(_strip(name, values, place, ROW * at) for at, (name, values) in enumerate(rows))
    n_ticks = round((high - low) / step) + 1
    ticks = tuple((place(low + step * at), f"{low + step * at:.10g}") for at in range(n_ticks))
    return Distribution(strips, ticks)


def _strip(name: str, values: Sequence[float], place: Callable[[float], float], top: int) -> Strip:
    shown = _thinned(values)
    note = "" if len(shown) == len(values) else f", {len(shown)} shown"
    # Multiples of the golden ratio spread neighbours evenly over the row's height, and the same way each time.
    dots = tuple((place(value), round(top + 16 + 22 * (at * GOLDEN % 1), 1)) for at, value in enumerate(shown))
    return Strip(f"{name} (n = {len(values)}{note})", dots, place(sum(values) / len(values)), top)


def _thinned(values: Sequence[float]) -> list[float]:
    """Return some of sorted values, evenly chosen, the first and the last among them."""
    if len(values) <= N_POINTS:
        return list(values)
    return [values[round(at * (len(values) - 1) / (N_POINTS - 1))] for at in range(N_POINTS)]


def _step(span: float) -> float:
    """Return a round distance of ticks that divides a span into about five."""
    rough = (span or 1.0) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def cells(heatmap: dict[str, Any]) -> Cells:
    """Return a heatmap (see ``patching.Heatmap``) as a table: a row per token, a column per layer."""
    columns = heatmap["nats"]
    top = max(abs(value) for column in columns for value in column)
    rows = tuple(
        (token, tuple((_shade(column[at], top), f"{column[at]:z.1f}") for column in columns))
        for at, token in enumerate(heatmap["tokens"])
    )
    return Cells(tuple(heatmap["layers"]), rows, top, heatmap["whole"])


def _shade(value: float, top: float) -> str:
    level = round(LEVELS * abs(value) / top) if top else 0
    return f"{'g' if value > 0 else 'l'}{level}" if level else ""
