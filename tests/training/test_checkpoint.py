"""Checkpoints: the names of their tensors, and what they restore."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn


def test_a_checkpoint_restores_parameters_average_and_optimizer(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from audit_lit.training.checkpoint import FILE, load_checkpoint, save_checkpoint

    def build() -> tuple[dict[str, nn.Parameter], dict[str, torch.Tensor], torch.optim.Optimizer]:
        parameters = {"model.a": nn.Parameter(torch.ones(2)), "write.weight": nn.Parameter(torch.ones(3))}
        return parameters, {"model.a": torch.zeros(2)}, torch.optim.AdamW(parameters.values(), lr=0.1)

    parameters, average, optimizer = build()
    assert load_checkpoint(tmp_path, parameters, average, optimizer) == {}
    for _ in range(3):
        sum(parameter.square().sum() for parameter in parameters.values()).backward()
        optimizer.step()
    average["model.a"].fill_(0.5)
    save_checkpoint(tmp_path, parameters, average, optimizer, {"step": "3"})
    names = {f"{kind}/{name}" for kind in ("parameter", "step", "exp_avg", "exp_avg_sq") for name in parameters}
    assert set(load_file(tmp_path / FILE)) == names | {"average/model.a"}
    assert [path.name for path in tmp_path.iterdir()] == [FILE]

    fresh, fresh_average, fresh_optimizer = build()
    assert load_checkpoint(tmp_path, fresh, fresh_average, fresh_optimizer) == {"step": "3"}
    assert fresh_average["model.a"].tolist() == [0.5, 0.5]
    for name, parameter in parameters.items():
        assert torch.equal(fresh[name], parameter)
        for key, value in optimizer.state[parameter].items():
            assert torch.equal(fresh_optimizer.state[fresh[name]][key], value)
