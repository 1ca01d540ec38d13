"""Effect against cost: what each condition reaches at several strengths, and what at an allowed cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any

import numpy as np

from audit_lit.evaluation.edit_suite.speech import Condition
from audit_lit.statistics.intervals import bootstrap_interval
from audit_lit.statistics.values import Values


@dataclass(frozen=True)
class Point:
    """The effect and the cost of one condition at one strength.

    Attributes:
        factor: Factor of the edit's own strength.
        effects: Change in the wanted direction, item by item.
        cost: Relative rise of perplexity.
        figures: Other figures to report.
    """

    factor: float
    effects: Values
    cost: float
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
    """Return what a condition reaches at an allowed cost beside its controls, and what other methods do.

    The condition and other methods count at their greatest allowed strength, whatever their effect there; a control
    counts at whichever allowed strength favours it most.

    Args:
        curves: The curve of each condition.
        best: The condition that is compared.
        limit: Allowed cost.
        methods: Conditions that are not controls, but other ways to the same end.
        seed: Of the bootstrap.
    """
    within = {name: points for name, curve in curves.items() if (points := allowed(curve, limit))}
    document: dict[str, Any] = {"too_dear": sorted(set(curves) - set(within) - {best}), "curves": _rows(curves)}
    if best not in within:
        return {"unreached": f"no strength of {best} costs at most {limit:.0%}", **document}
    reached = within[best][-1]
    controls = {
        name: max(points, key=lambda point: point.effect)
        for name, points in within.items()
        if name not in (best, *methods)
    }
    return {
        **_reached(reached, seed),
        "controls": {name: point.effect for name, point in controls.items()},
        "control_costs": {name: point.cost for name, point in controls.items()},
        **_lift(reached, list(controls.values()), seed),
        "methods": {name: _reached(within[name][-1], seed) for name in methods if name in within and name != best},
        **document,
    }


def _lift(reached: Point, controls: Sequence[Point], seed: int) -> dict[str, Any]:
    """Return the lift over the strongest control, or over strength 0, which costs nothing and has no effect."""
    baselines = [np.zeros_like(reached.effects), *(point.effects for point in controls)]
    lifts = reached.effects - max(baselines, key=lambda effects: float(effects.mean()))
    return {"lift": float(lifts.mean()), "lift_interval": bootstrap_interval(lifts, seed=seed)}


def _reached(point: Point, seed: int) -> dict[str, Any]:
    interval = bootstrap_interval(point.effects, seed=seed)
    return {"value": point.effect, "interval": interval, "cost": point.cost, "factor": point.factor}


def _rows(curves: Mapping[str, Curve]) -> dict[str, list[dict[str, Any]]]:
    return {name: [point.to_dict() for point in curve] for name, curve in curves.items()}
