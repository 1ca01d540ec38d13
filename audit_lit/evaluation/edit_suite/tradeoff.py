"""Effect against cost: what each condition reaches at several strengths, and what at an allowed cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from audit_lit.statistics.intervals import bootstrap_interval

if TYPE_CHECKING:
    from audit_lit.evaluation.edit_suite.speech import Condition

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """What one condition does at one strength.

    Attributes:
        factor: Of the edit's own strength.
        effects: Change in the wanted direction, item by item.
        cost: Relative rise of perplexity.
        more: Other figures to report.
    """

    factor: float
    effects: Values
    cost: float
    more: Mapping[str, float | None]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready row."""
        return {"factor": self.factor, "effect": float(self.effects.mean()), "cost": self.cost, **self.more}


Curve = Sequence[Point]


def trace_all(
    conditions: Mapping[str, Condition],
    measure: Callable[[Condition, float], Point],
    factors: Sequence[float],
    limit: float,
) -> dict[str, Curve]:
    """Return the curve of each condition; one point for those that have one strength (see ``trace``)."""
    return {
        name: trace(partial(measure, one), (1.0,) if one.one_strength else factors, limit)
        for name, one in conditions.items()
    }


def trace(measure: Callable[[float], Point], factors: Sequence[float], limit: float) -> list[Point]:
    """Return the points from the weakest on, up to the first that costs more than twice what is allowed."""
    found: list[Point] = []
    for factor in factors:
        found.append(measure(factor))
        if found[-1].cost > 2 * limit:
            break
    return found


def allowed(curve: Curve, limit: float) -> Curve:
    """Return the points, weakest first, up to the first whose cost is not allowed."""
    weakest_first = sorted(curve, key=lambda point: point.factor)
    return list(takewhile(lambda point: point.cost <= limit, weakest_first))


def compared(
    curves: Mapping[str, Curve], best: str, limit: float, *, methods: Sequence[str] = (), seed: int = 0
) -> dict[str, Any]:
    """Return what a condition reaches at an allowed cost beside its controls, and what other methods do.

    It and other methods count at their greatest allowed strength, which their effect has no part in; a control at
    whichever allowed strength favours it most.

    Args:
        curves: By condition.
        best: The condition that is compared.
        limit: Allowed cost.
        methods: Conditions that are no controls, but other ways to the same end.
        seed: Of the bootstrap.
    """
    points = {name: allowed(curve, limit) for name, curve in curves.items()}
    found = {name: some for name, some in points.items() if some}
    document: dict[str, Any] = {"too_dear": sorted(set(points) - set(found) - {best}), "curves": _rows(curves)}
    if best not in found:
        return {"unreached": f"no strength of {best} costs at most {limit:.0%}", **document}
    own = found[best][-1]
    controls = {
        name: max(some, key=lambda point: float(point.effects.mean()))
        for name, some in found.items()
        if name not in (best, *methods)
    }
    rivals = [np.zeros_like(own.effects), *(point.effects for point in controls.values())]  # strength 0 costs nothing
    lifts = own.effects - max(rivals, key=lambda effects: float(effects.mean()))
    return {
        **_reached(own, seed),
        "controls": {name: float(point.effects.mean()) for name, point in controls.items()},
        "control_costs": {name: point.cost for name, point in controls.items()},
        "lift": float(lifts.mean()),
        "lift_interval": bootstrap_interval(lifts, seed=seed),
        "methods": {name: _reached(found[name][-1], seed) for name in methods if name in found and name != best},
        **document,
    }


def _reached(point: Point, seed: int) -> dict[str, Any]:
    interval = bootstrap_interval(point.effects, seed=seed)
    return {"value": float(point.effects.mean()), "interval": interval, "cost": point.cost, "factor": point.factor}


def _rows(curves: Mapping[str, Curve]) -> dict[str, list[dict[str, Any]]]:
    return {name: [point.to_dict() for point in curve] for name, curve in curves.items()}
