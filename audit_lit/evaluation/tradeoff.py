"""Effect against cost: what each condition reaches at several strengths, and what at an allowed cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np
import numpy.typing as npt

from audit_lit.answer import bootstrap_interval

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
    more: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready row."""
        return {"factor": self.factor, "effect": float(self.effects.mean()), "cost": self.cost, **self.more}


Curve = Sequence[Point]


def trace(measure: Callable[[float], Point], factors: Sequence[float], limit: float) -> list[Point]:
    """Return the points from the weakest on, up to the first that costs more than twice what is allowed."""
    found: list[Point] = []
    for factor in factors:
        found.append(measure(factor))
        if found[-1].cost > 2 * limit:
            break
    return found


def at_cost(curve: Curve, limit: float) -> Point | None:
    """Return the strongest point whose cost, like every weaker one's, is allowed; None if there is none."""
    weakest_first = sorted(curve, key=lambda point: point.factor)
    return next(reversed(list(takewhile(lambda point: point.cost <= limit, weakest_first))), None)


def compared(curves: Mapping[str, Curve], best: str, limit: float, seed: int = 0) -> dict[str, Any]:
    """Return what a condition reaches at an allowed cost beside all others, none of which reaches less than nothing.

    Args:
        curves: By condition.
        best: The condition that is compared.
        limit: Allowed cost.
        seed: Of the bootstrap.
    """
    reached = {name: at_cost(curve, limit) for name, curve in curves.items()}
    own, others = reached.pop(best), {name: point for name, point in reached.items() if point is not None}
    if own is None:
        return {"unreached": f"no strength of {best} costs at most {limit:.0%}", "curves": _rows(curves)}
    document = {
        "value": float(own.effects.mean()),
        "interval": bootstrap_interval(own.effects, seed=seed),
        "cost": own.cost,
        "factor": own.factor,
        "controls": {name: float(point.effects.mean()) for name, point in others.items()},
        "control_costs": {name: point.cost for name, point in others.items()},
        "too_dear": sorted(set(reached) - set(others)),
    }
    rivals = [np.zeros_like(own.effects), *(point.effects for point in others.values())]  # strength 0 costs nothing
    lifts = own.effects - max(rivals, key=lambda effects: float(effects.mean()))
    document |= {"lift": float(lifts.mean()), "lift_interval": bootstrap_interval(lifts, seed=seed)}
    return document | {"curves": _rows(curves)}


def _rows(curves: Mapping[str, Curve]) -> dict[str, list[dict[str, Any]]]:
    return {name: [point.to_dict() for point in curve] for name, curve in curves.items()}
