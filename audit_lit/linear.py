"""Linear layers in float32 on a CPU, computed by oneDNN: torch takes MKL, which leaves half of AMD's AVX-512 idle."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

ONEDNN = torch.backends.cpu.get_cpu_capability() == "AVX512" and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return what ``torch.nn.functional.linear`` does, by the library that is faster; they differ in rounding alone."""
    graph = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    if graph or not ONEDNN or not (x.dtype == weight.dtype == torch.float32 and x.device.type == "cpu"):
        return nn.functional.linear(x, weight, bias)
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


def speed_up(model: nn.Module) -> None:
    """Let the plain linear layers of a model compute by ``linear``."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.forward = partial(_forward, module)  # type: ignore[method-assign]


def _forward(module: nn.Linear, x: Tensor) -> Tensor:
    return linear(x, module.weight, module.bias)
