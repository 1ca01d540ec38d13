"""The trade-off's rules, on curves by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from audit_lit.evaluation.edit_suite.speech import Condition
from audit_lit.evaluation.edit_suite.tradeoff import Point, allowed, compared, trace, trace_all


def point(factor: float, cost: float, *effects: float) -> Point:
    return Point(factor, np.array(effects or (0.0,)), cost, {})


def test_a_trace_stops_after_twice_the_limit() -> None:
    costs = {0.25: 0.05, 0.5: 0.2, 0.75: 0.21, 1.0: 0.0}
    points = trace(lambda factor: point(factor, costs[factor]), tuple(costs), 0.1)
    assert [at.factor for at in points] == [0.25, 0.5, 0.75]


def test_words_are_measured_at_one_strength() -> None:
    conditions = {"plain": Condition(), "prompting": Condition(system="Be."), "gradient": Condition(each={})}
    curves = trace_all(conditions, lambda _, factor: point(factor, 0.0), (0.5, 2.0), 0.1)
    factors = {name: [at.factor for at in curve] for name, curve in curves.items()}
    assert factors == {"plain": [0.5, 2.0], "prompting": [1.0], "gradient": [1.0]}


def test_points_count_until_the_cost_is_not_allowed() -> None:
    curve = [point(0.25, -0.1), point(0.5, 0.1), point(0.75, 0.11), point(1.0, 0.05)]
    assert [at.factor for at in allowed(curve[::-1], 0.1)] == [0.25, 0.5]
    assert allowed(curve[2:3], 0.1) == allowed([], 0.1) == []


def test_conditions_are_compared_at_an_allowed_cost() -> None:
    curves = {
        "vector": [point(0.5, 0.05, 1.0, 2.0, 3.0), point(1.0, 0.1, 2.0, 3.0, 4.0), point(1.5, 0.3, 9.0, 9.0, 9.0)],
        "random": [point(0.5, 0.0, -1.0, 0.0, 0.0)],
        "caa": [point(0.5, 0.02, 1.0, 1.0, 4.0), point(0.7, 0.03, 1.0, 1.0, 1.0), point(1.0, 0.5, 8.0, 8.0, 8.0)],
        "shuffled": [point(0.5, 0.2, 5.0, 5.0, 5.0)],
    }
    document = compared(curves, "vector", 0.1)
    assert (document["value"], document["cost"], document["factor"]) == (3.0, 0.1, 1.0)
    assert document["controls"] == {"random": pytest.approx(-1 / 3), "caa": 2.0}
    assert document["control_costs"] == {"random": 0.0, "caa": 0.02} and document["too_dear"] == ["shuffled"]
    assert document["lift"] == 1.0 and document["lift_interval"][0] <= 1.0 <= document["lift_interval"][1]
    assert 2.0 <= document["interval"][0] < 3.0 < document["interval"][1] <= 4.0
    assert document["curves"]["caa"][2] == {"factor": 1.0, "effect": 8.0, "cost": 0.5}
    assert document == compared(curves, "vector", 0.1) and json.dumps(document)
    assert compared({**curves, "caa": curves["shuffled"]}, "vector", 0.1)["lift"] == 3.0  # over doing nothing
    other = compared(curves, "vector", 0.1, methods=["caa", "shuffled"])  # not controls, but other ways
    assert other["lift"] == 3.0 and set(other["controls"]) == {"random"} and other["too_dear"] == ["shuffled"]
    assert {name: reached["value"] for name, reached in other["methods"].items()} == {"caa": 1.0}  # its strongest
    unreached = compared({**curves, "vector": curves["shuffled"]}, "vector", 0.1)
    assert unreached["unreached"] == "no strength of vector costs at most 10%" and "value" not in unreached
