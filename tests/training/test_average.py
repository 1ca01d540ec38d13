"""The moving average of the weights, against its recurrence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.training import small_recipe
from torch import nn

pytestmark = pytest.mark.usefixtures("unmeasured")


def test_the_average_follows_its_recurrence() -> None:
    from audit_lit.training.average import WeightAverage

    parameter = nn.Parameter(torch.zeros(3))
    average = WeightAverage({"p": parameter}, 0.9)
    expected = torch.zeros(3)
    for step in range(1, 200):
        parameter.data.add_(torch.randn(3))
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * parameter.detach()
    torch.testing.assert_close(average.values["p"], expected)


def test_the_average_takes_the_place_of_the_weights_for_a_while() -> None:
    from audit_lit.training.average import WeightAverage

    parameter = nn.Parameter(torch.zeros(2))
    average = WeightAverage({"p": parameter}, 0.5)
    parameter.data.fill_(1.0)
    with average.swapped():
        assert parameter.tolist() == [0, 0]
    assert parameter.tolist() == [1, 1] and average.values["p"].tolist() == [0, 0]
    with pytest.raises(KeyboardInterrupt), average.swapped():
        raise KeyboardInterrupt
    assert parameter.tolist() == [1, 1]


def test_without_a_decay_there_is_no_average() -> None:
    from audit_lit.training.average import WeightAverage

    parameter = nn.Parameter(torch.ones(2))
    average = WeightAverage({"p": parameter}, 0.0)
    average.update(1)
    with average.swapped():
        assert average.values == {} and parameter.tolist() == [1, 1]


def test_average_is_exponential_and_is_what_is_saved(folders: tuple[Path, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from audit_lit.training.average import WeightAverage
    from audit_lit.training.run import train

    seen: list[torch.Tensor] = []
    update = WeightAverage.update

    def watched(self: Any, step: int) -> None:
        update(self, step)
        seen.append(self._parameters["write.weight"].detach().clone())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WeightAverage, "update", watched)
        folder = train(small_recipe(folders, average=0.5, precision="fp32"), folders[1], tmp_path)
    expected = torch.eye(32).reshape(seen[0].shape)
    for step, value in enumerate(seen, start=1):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    saved = load_file(folder / "projection.safetensors")["weight"]
    torch.testing.assert_close(saved, expected)
    assert not torch.allclose(saved, seen[-1])
