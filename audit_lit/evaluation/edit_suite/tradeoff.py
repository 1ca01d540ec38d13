"""Effect against cost: what each condition reaches at several strengths, and what at an allowed cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any

import numpy as np

from audit_lit.evaluation.edit_suite.speech import Condition
from audit_lit.statistics.intervals import Values, bootstrap_interval


@dataclass(frozen=True)
class Point:
    """The effect and the cost of one condition at one strength, and other figures to report."""

    factor: float
    """Factor of the edit's own strength."""
    effects: Values
    """Change in the wanted direction, item by item."""
    cost: float
    """Relative rise of perplexity."""
    figures: Mapping[str, float | None]

    @property
    def effect(self) -> float:
        """The mean change in the wanted direction."""
        return float(self.effects.mean())

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready row."""
        return {"factor": self.factor, "effect": self.effect, "cost": self.cost, **self.figures}


Curve = Sequence[Point]


def trace_all(
    conditions: Mapping[str, Condition],
    measure: Callable[[Condition, float], Point],
    factors: Sequence[float],
    limit: float,
) -> dict[str, Curve]:
    """Return the curve of each condition; one point for those that have one strength (see ``trace``)."""
    return {
        name: trace(partial(measure, condition), (1.0,) if condition.one_strength else factors, limit)
        for name, condition in conditions.items()
    }


def trace(measure: Callable[[float], Point], factors: Sequence[float], limit: float) -> list[Point]:
    """Return the points from the weakest on, up to the first that costs more than twice what is allowed."""
    points: list[Point] = []
    for factor in factors:
        points.append(measure(factor))
        if points[-1].cost > 2 * limit:
            break
    return points


def allowed(curve: Curve, limit: float) -> Curve:
    """Return the points, weakest first, up to the first whose cost is not allowed."""
    weakest_first = sorted(curve, key=lambda point: point.factor)
    return list(takewhile(lambda point: point.cost <= limit, weakest_first))


def compared(
    curves: Mapping[str, Curve], best: str, limit: float, *, methods: Sequence[str] = (), seed: int = 0
) -> dict[str, Any]:
    """Return what the condition ``best`` reaches at an allowed cost beside its controls, and what other methods do.

    It and other methods to the same end count at their greatest allowed strength, whatever their effect there; a
    control counts at whichever allowed strength favours it most.
    """
    within = {name: points for name, curve in curves.items() if (points := allowed(curve, limit))}
    rows = {name: [point.to_dict() for point in curve] for name, curve in curves.items()}
    document: dict[str, Any] = {"too_dear": sorted(set(curves) - set(within) - {best}), "curves": rows}
    if best not in within:
        return {"unreached": f"no strength of {best} costs at most {limit:.0%}", **document}
    reached = within[best][-1]
    names = [name for name in within if name not in (best, *methods)]
    controls = {name: max(within[name], key=lambda point: point.effect) for name in names}
    # Over the strongest control, or over strength 0, which costs nothing and has no effect.
    baselines = [np.zeros_like(reached.effects), *(point.effects for point in controls.values())]
    lifts = reached.effects - max(baselines, key=lambda effects: float(effects.mean()))
    return {
        **_reached(reached, seed),
        "controls": {name: point.effect for name, point in controls.items()},
        "control_costs": {name: point.cost for name, point in controls.items()},
        "lift": float(lifts.mean()),
        "lift_interval": bootstrap_interval(lifts, seed=seed),
        "methods": {name: _reached(within[name][-1], seed) for name in methods if name in within and name != best},
        **document,
    }


def _reached(point: Point, seed: int) -> dict[str, Any]:
    interval = bootstrap_interval(point.effects, seed=seed)
    return {"value": point.effect, "interval": interval, "cost": point.cost, "factor": point.factor}
