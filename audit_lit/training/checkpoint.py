"""Checkpoints of a training run: parameters and optimizer state in one safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

FILE = "checkpoint.safetensors"
STATE = ("step", "exp_avg", "exp_avg_sq")
"""The state that AdamW keeps for each parameter."""

Parameters = Mapping[str, nn.Parameter]


def save_checkpoint(
    folder: Path,
    parameters: Parameters,
    average: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    metadata: dict[str, str],
) -> None:
    """Write a checkpoint by one rename, so that a killed run keeps the last one or has this one."""
    from safetensors.torch import save_file

    tensors = {f"parameter/{name}": parameter.detach() for name, parameter in parameters.items()}
    tensors |= {f"average/{name}": value for name, value in average.items()}
    for name, parameter in parameters.items():
        tensors |= {f"{key}/{name}": value.detach() for key, value in optimizer.state[parameter].items()}
    partial = folder / f"{FILE}.partial"
    save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, partial, metadata=metadata)
    partial.replace(folder / FILE)


def load_checkpoint(
    folder: Path, parameters: Parameters, average: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
) -> dict[str, str]:
    """Restore what ``save_checkpoint`` wrote and return its metadata; empty if there is no checkpoint."""
    from safetensors import safe_open

    if not (folder / FILE).is_file():
        return {}
    with safe_open(folder / FILE, framework="pt") as file:
        for name, parameter in parameters.items():
            parameter.data.copy_(file.get_tensor(f"parameter/{name}"))
            optimizer.state[parameter] = {key: file.get_tensor(f"{key}/{name}") for key in STATE}
        for name, value in average.items():
            value.copy_(file.get_tensor(f"average/{name}"))
        return dict(file.metadata())
