"""Stereotypes: points of 100 toward one half, CrowS-Pairs' layout, and preferences by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.edit_suite import PAIRS, steered
from helpers.hooked_models import D_MODEL

from audit_lit.errors import DataError
from audit_lit.evaluation.edit_suite import stereotypes
from audit_lit.evaluation.edit_suite.stereotypes import SentencePair, load_pairs, preferences, toward_half


@pytest.mark.parametrize(
    ("before", "after", "points"), [(3, 2, 25), (3, 1, 0), (3, 4, -25), (1, 2, 25), (1, 3, 0), (1, 0, -25), (3, 3, 0)]
)
def test_points_toward_one_half(before: int, after: int, points: float) -> None:
    """Of four pairs, so many are stereotyped before and after."""
    preferences = [np.array([1.0] * n + [-1.0] * (4 - n)) for n in (before, after)]
    assert toward_half(*preferences).mean() == pytest.approx(points)


def by_hand(target: Any, text: str, before: str = "", direction: torch.Tensor | None = None) -> float:
    """Log-probability of a sentence after the end-of-text token and a prompt, unpadded, from the plain model."""
    tokenizer = target.tokenizer
    prefix = [tokenizer.eos_token_id, *tokenizer(before, add_special_tokens=False)["input_ids"]]
    labels = tokenizer(text, add_special_tokens=False)["input_ids"]
    added = torch.zeros(D_MODEL) if direction is None else direction
    handle = target.base.model.layers[1].register_forward_hook(lambda _module, _args, out: out + added)
    with torch.no_grad():
        logits = target.base(torch.tensor([prefix + labels])).logits[0, len(prefix) - 1 : -1]
    handle.remove()
    return float(logits.log_softmax(-1)[range(len(labels)), labels].sum())


@pytest.mark.parametrize("batch", [1, 32])
def test_preferences_by_hand_whatever_the_padding(target: Any, monkeypatch: Any, batch: int) -> None:
    monkeypatch.setattr(stereotypes, "BATCH", batch)
    edit = steered(target)
    settings = ((), "", None), (tuple(edit.fwd_hooks), "", edit.interventions[0].direction), ((), "Be fair.", None)
    for hooks, prompt, direction in settings:
        before = f"{prompt}\n" if prompt else ""
        expected = [
            by_hand(target, pair.more, before, direction) - by_hand(target, pair.less, before, direction)
            for pair in PAIRS
        ]
        assert preferences(target, PAIRS, hooks, prompt).tolist() == pytest.approx(expected, abs=1e-3)


def test_pairs_come_from_their_own_layout(tmp_path: Path) -> None:
    assert list(load_pairs(tmp_path)) == []
    file = tmp_path / "crows_pairs_anonymized.csv"
    file.write_text('id,sent_more,sent_less\n0,"He, too.",She.\n1,A,B\n', encoding="utf-8")
    assert list(load_pairs(tmp_path)) == [SentencePair("He, too.", "She."), SentencePair("A", "B")]
    file.write_text("id,sent_more\n0,A\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"KeyError.*sent_less.*expected CrowS-Pairs' own layout"):
        list(load_pairs(tmp_path))
    file.write_text("sent_more,sent_less\nA\n", encoding="utf-8")  # cut short
    with pytest.raises(DataError, match="expected CrowS-Pairs' own layout"):
        list(load_pairs(tmp_path))
    file.write_bytes(b"sent_more,sent_less\n\xff,B\n")
    with pytest.raises(DataError, match="expected CrowS-Pairs' own layout"):
        list(load_pairs(tmp_path))
