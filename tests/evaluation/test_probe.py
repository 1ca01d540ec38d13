"""The probe against ridge regression in its primal form, and on planted classes."""

from __future__ import annotations

from typing import Any

import pytest
import torch


def activations(resid: torch.Tensor) -> Any:
    from audit_lit import Activations

    n, slots = resid.shape[0], resid.shape[2]
    ids = torch.zeros(n, slots, dtype=torch.long)
    return Activations(
        resid, torch.ones(n, slots, dtype=torch.bool), ids, ids, torch.zeros(n, dtype=torch.long), (1,), "x"
    )


def test_dual_is_ridge_regression() -> None:
    from audit_lit.evaluation.probe import RIDGE, Probe, probe_features

    torch.manual_seed(0)
    train, test = activations(torch.randn(30, 1, 3, 4)), activations(torch.randn(5, 1, 3, 4))
    labels = ["a", "b", "b"] * 10
    x, y = probe_features(train), torch.tensor([[label == "a", label == "b"] for label in labels]).double()
    mean, std = x.mean(0), x.std(0)
    z = (x - mean) / std
    penalty = RIDGE * z.square().sum(1).mean() * torch.eye(z.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(z.T @ z + penalty, z.T @ (y - y.mean(0)))
    expected = (probe_features(test) - mean) / std @ weights + y.mean(0)
    assert Probe(train, labels).scores(test) == pytest.approx(expected.numpy(), abs=1e-8)


def test_planted_classes_are_found_and_noise_is_not() -> None:
    from audit_lit.evaluation.probe import Probe

    torch.manual_seed(0)
    labels = [str(index % 3) for index in range(90)]
    resid = torch.randn(180, 1, 3, 8)
    for row in range(180):
        resid[row, 0, 0, row % 3] += 4
    probe = Probe(activations(resid[:90]), labels)
    assert probe.predict(activations(resid[90:])) == labels
    noise = Probe(activations(torch.randn(90, 1, 3, 8)), labels).predict(activations(torch.randn(90, 1, 3, 8)))
    assert 0.1 < sum(a == b for a, b in zip(noise, labels, strict=True)) / 90 < 0.6


def test_last_position_is_the_last_that_was_read() -> None:
    from dataclasses import replace

    from audit_lit.evaluation.probe import probe_features

    read = activations(torch.arange(24.0).reshape(2, 1, 3, 4))
    read = replace(read, mask=torch.tensor([[True, True, False], [True, True, True]]), resid=read.resid.clone())
    read.resid[0, 0, 2] = 0
    assert probe_features(read)[0, 4:8].tolist() == read.resid[0, 0, 1].tolist()
    assert probe_features(read)[0, 8:].tolist() == read.resid[0, 0, :2].mean(0).tolist()
