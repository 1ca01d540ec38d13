"""Conditions: what each control is given, and figures beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch


def conditions_of(trained: Any) -> Any:
    from audit_lit.evaluation.conditions import Conditions
    from audit_lit.evaluation.dialogs import hidden_dialogs

    dialogs = hidden_dialogs(trained.with_prompt, repaired=True)
    return Conditions.of(trained.decoder, trained.target, dialogs)


def test_shuffled_gives_nobody_its_own(trained: Any) -> None:
    conditions = conditions_of(trained)
    same = (conditions.shuffled.resid == conditions.activations.resid).flatten(1).all(1)
    assert not same.any()
    assert sorted(map(repr, conditions.shuffled.resid.sum((1, 2, 3)).tolist())) == sorted(
        map(repr, conditions.activations.resid.sum((1, 2, 3)).tolist())
    )


def test_every_condition_scores_and_answers(trained: Any) -> None:
    conditions, n = conditions_of(trained), len(trained.with_prompt)
    for name in ("activations", "no_activation", "null", "shuffled", "text_only"):
        scores = conditions.scores(name, 1, "Who?", ["a", "bcd"])
        assert [len(score) for score in scores] == [2, 4]
        assert len(conditions.answers(name, ["Who?"] * n, max_new_tokens=2, batch_size=4)) == n
        totals = conditions.totals(name, 1, "Who?", ["a", "bcd"])
        assert totals.tolist() == pytest.approx([float(score.sum()) for score in scores])
    filled, empty = (conditions.scores(name, 1, "Who?", ["a"])[0] for name in ("activations", "no_activation"))
    assert not torch.allclose(filled, empty)


def test_text_baselines_do_not_see_the_prompt(trained: Any) -> None:
    texts = conditions_of(trained).texts
    assert all("You are" not in text and "Hello number" in text for text in texts)


def test_evidence_is_less_its_marginal_over_the_dialogs(trained: Any) -> None:
    conditions = conditions_of(trained)
    raw = np.stack(
        [conditions.totals("activations", row, "Who?", ["a", "bcd"]) for row in range(len(conditions.texts))]
    )
    expected = raw - np.log(np.exp(raw).mean(axis=0))
    np.testing.assert_allclose(conditions.evidence("activations", "Who?", ["a", "bcd"]), expected, atol=1e-6)
    assert not conditions.evidence("no_activation", "Who?", ["a", "bcd"]).round(6).any()


def test_the_lift_is_over_the_strongest_control() -> None:
    from audit_lit.evaluation.conditions import beside

    values = {"activations": np.array([1.0, 0.0, 1.0]), "null": np.zeros(3), "shuffled": np.array([0.0, 1.0, 0.0])}
    figures = beside(values, "top1")
    assert (figures["top1"], figures["strongest_control"]) == (pytest.approx(2 / 3), "shuffled")
    assert figures["controls"] == {"null": 0.0, "shuffled": pytest.approx(1 / 3)}
    assert figures["lift"] == pytest.approx(1 / 3)
    assert figures["lift_interval"][0] <= figures["lift"] <= figures["lift_interval"][1]
