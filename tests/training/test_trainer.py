"""The training loop: it lowers the loss, averages the weights, resumes exactly, and stops at a loss not finite."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.training import losses, small_recipe
from torch import nn

pytestmark = pytest.mark.usefixtures("unmeasured")


@pytest.mark.slow
def test_killed_run_resumes_exactly(folders: tuple[Path, Path], tmp_path: Path) -> None:
    from audit_lit.training.run import train
    from audit_lit.training.trainer import Trainer

    recipe = small_recipe(folders, precision="fp32")
    whole = train(recipe, folders[1], tmp_path / "whole")
    step = Trainer.train_step

    def killed(self: Any, *batch: Any) -> Any:
        if self.step == 7:
            raise KeyboardInterrupt  # after the checkpoint of step 6
        return step(self, *batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_step", killed)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, folders[1], tmp_path / "killed")
    resumed = train(recipe, folders[1], tmp_path / "killed")
    logs = [
        [json.loads(line) for line in (folder.parent / "log.jsonl").read_text().splitlines()]
        for folder in (whole, resumed)
    ]
    assert [record["step"] for record in logs[1]] == list(range(1, 11))
    for one, other in zip(*logs, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], abs=1e-6) and other["lr"] == one["lr"]
        assert one.get("gap_label") == other.get("gap_label")
    for name in ("adapter_model.safetensors", "projection.safetensors"):
        assert (whole / name).read_bytes() == (resumed / name).read_bytes()


def test_a_log_line_cut_short_does_not_stop_a_resume(folders: tuple[Path, Path], tmp_path: Path) -> None:
    from audit_lit.training.run import train

    train(small_recipe(folders, examples=8), folders[1], tmp_path)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    train(small_recipe(folders, examples=8), folders[1], tmp_path)
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "precision"), [("project", "bf16"), ("project", "fp32"), ("replace", "fp32"), ("add", "fp32")]
)
def test_training_lowers_the_loss(folders: tuple[Path, Path], tmp_path: Path, write: str, precision: str) -> None:
    from audit_lit.decoder.decoder import Decoder
    from audit_lit.models.loading import load_target
    from audit_lit.training.run import train

    base = small_recipe(folders)
    recipe = base.model_copy(
        update={
            "examples": 160,
            "lr": 3e-3,
            "precision": precision,
            "wire": base.wire.model_copy(update={"write": write}),
        }
    )
    target = load_target(str(folders[0]))
    folder = train(recipe, folders[1], tmp_path, target=target)
    logged = losses(tmp_path)
    assert np.mean(logged[-8:]) < np.mean(logged[:8]) - 0.2
    loaded = Decoder.from_pretrained(str(folder), target=target)
    assert loaded.config.write == write and loaded.config.target_fingerprint == target.fingerprint()


@pytest.mark.slow
def test_accumulated_parts_train_like_whole_steps(folders: tuple[Path, Path], tmp_path: Path) -> None:
    from audit_lit.training.run import train

    plain = {"lora": small_recipe(folders).lora.model_copy(update={"lora_dropout": 0.0}), "precision": "fp32"}
    for name, parts in (("whole", 1), ("parts", 4)):
        train(small_recipe(folders, accumulate=parts, **plain), folders[1], tmp_path / name)
    # A step's loss is the mean over its parts' tokens, whose number differs a little.
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), abs=0.05)
    assert losses(tmp_path / "whole")[0] > losses(tmp_path / "whole")[-1]


def test_a_loss_that_is_not_finite_stops_the_run(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from audit_lit.decoder.decoder import Decoder
    from audit_lit.errors import TrainingError
    from audit_lit.training.run import train

    loss = Decoder.loss
    calls: list[int] = []

    def exploding(self: Any, *args: Any) -> Any:
        calls.append(1)
        return loss(self, *args) * (float("nan") if len(calls) == 4 else 1.0)

    monkeypatch.setattr(Decoder, "loss", exploding)
    with pytest.raises(TrainingError, match=r"the loss is nan at step 3; expected a finite number. Lower lr"):
        train(small_recipe(folders), folders[1], tmp_path)
    assert len(losses(tmp_path)) == 3 and (tmp_path / "checkpoint.safetensors").is_file()


def test_the_average_follows_its_recurrence() -> None:
    from audit_lit.training.trainer import WeightAverage

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
    from audit_lit.training.trainer import WeightAverage

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
    from audit_lit.training.trainer import WeightAverage

    parameter = nn.Parameter(torch.ones(2))
    average = WeightAverage({"p": parameter}, 0.0)
    average.update(1)
    with average.swapped():
        assert average.values == {} and parameter.tolist() == [1, 1]


def test_average_is_exponential_and_is_what_is_saved(folders: tuple[Path, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from audit_lit.training.run import train
    from audit_lit.training.trainer import WeightAverage

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
