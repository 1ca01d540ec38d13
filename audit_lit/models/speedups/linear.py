"""Linear layers in float32 on a CPU, computed by oneDNN: torch takes MKL, which leaves half of AMD's AVX-512 idle."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


def _works() -> bool:
    """Return whether torch's own, undocumented operator is there, and takes what we give it."""
    x = torch.ones(2, 3)
    try:
        return torch.backends.cpu.get_cpu_capability() == "AVX512" and bool((_product(x, x, None) == 3).all())
    except (AttributeError, RuntimeError, TypeError):
        return False


ONEDNN = _works()


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return what ``torch.nn.functional.linear`` does, by the library that is faster; they differ in rounding alone."""
    return _product(x, weight, bias) if ONEDNN and _plain(x, weight) else nn.functional.linear(x, weight, bias)


def _plain(x: Tensor, weight: Tensor) -> bool:
    """Return whether it is a product in float32 on a CPU that nobody asks a gradient or autocast of."""
    graph = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    return (
        not graph
        and not torch.is_autocast_enabled(x.device.type)
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == "cpu"
    )


def use_fast_linear(model: nn.Module) -> None:
    """Let the plain linear layers of a model compute by ``linear``."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.forward = partial(_forward, module)  # type: ignore[method-assign]


def _forward(module: nn.Linear, x: Tensor) -> Tensor:
    return linear(x, module.weight, module.bias)
