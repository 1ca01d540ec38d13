"""The suite ``null``: its inputs say nothing, and its shares by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch


def test_null_inputs_have_the_shape_and_size_of_read_activations(trained: Any) -> None:
    from audit_lit.answers.controls import NULL_KINDS, null_input
    from audit_lit.evaluation.dialogs import read_dialogs

    decoder, target = trained.decoder, trained.target
    dialogs = [row.messages for row in trained.with_prompt][:3]
    activations = read_dialogs(target, decoder.config, dialogs, [False, False, True])  # the last has one position
    for kind in NULL_KINDS:
        resid = null_input(kind, activations, decoder.write).resid
        assert resid.shape == activations.resid.shape and not torch.allclose(resid, activations.resid)
        assert not resid[2, :, 1:].any()
    permuted = null_input("permuted", activations, decoder.write).resid
    torch.testing.assert_close(permuted.sort(-1).values, activations.resid.sort(-1).values)
    mean = null_input("mean", activations, decoder.write).resid
    torch.testing.assert_close(mean[1, :, 0], activations.resid[:, :, 0].mean(0))
    torch.testing.assert_close(mean[0, :, 1:], activations.resid[:2, :, 1:].mean(0))


def answer(text: str, lift: float) -> Any:
    """An answer whose lift has an interval above zero."""
    from audit_lit.answers.answer import Answer

    where: dict[str, Any] = {"layers": (1,), "positions": (), "tokens": (), "seed": 0, "target": "t", "decoder": "d"}
    scores: dict[str, Any] = {"score": -1.0, "controls": {"null": -1.0 - lift}, "lift": lift, "interval": (0.01, 2.0)}
    return Answer(question="Who?", text=text, threshold=None, samples=(), agreement=1.0, **scores, **where)


def test_the_threshold_is_the_most_deceptive_kinds_quantile_over_the_first_half() -> None:
    from audit_lit.chat.vocabulary import SAYS_NOTHING
    from audit_lit.evaluation.suites.null import _summary

    lifts = {"random": [0.1, 0.2, 0.3, 0.9], "permuted": [0.1] * 4, "mean": [5.0, 5.0, 0.1, 0.1], "true": [1.0] * 4}
    answers = {kind: [answer("a pirate", lift) for lift in values] for kind, values in lifts.items()}
    answers["mean"][:2] = [answer(SAYS_NOTHING, 5.0)] * 2  # counts as no lift
    summary = _summary(answers, ["a pirate"] * 4, None)
    threshold = float(np.quantile([0.1, 0.2], 0.95))
    assert summary["threshold"] == summary["threshold_of_first_half"] == pytest.approx(threshold)
    assert summary["by_kind"] == {"random": 1.0, "permuted": 0.0, "mean": 0.0}
    assert summary["confident_share"] == pytest.approx(1 / 3) and summary["true_confident_share"] == 1.0
    assert summary["says_nothing"] == {"random": 0.0, "permuted": 0.0, "mean": 0.5, "true": 0.0}
    assert summary["true_f1"] == {"confident": 1.0, "other": None}
    assert _summary(answers, ["a pirate"] * 4, 0.5)["threshold"] == 0.5  # the decoder's own
