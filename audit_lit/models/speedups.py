"""Faster products, where torch's or peft's own are slow; the results differ in rounding alone.

- Linear layers in float32 on a CPU are computed by oneDNN: torch takes MKL, which leaves half of AMD's AVX-512 idle.
- LoRA layers take few steps: peft's forward has a dozen Python steps and small tensor operations per layer, which slows
  down the generation of one token at a time. The same formula, ``W x + s B A x``, is two products and one fused
  addition. The adapter stays unmerged, because the base weights are shared with the target.

They rest on operators that torch and peft do not document. Set the environment variable ``AUDIT_LIT_SPEEDUPS`` to
``off`` or ``0`` before a model is loaded to compute by torch and peft alone; by default they are on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from peft import PeftModel


N_TIMINGS = 10


def are_on() -> bool:
    """Return whether models that are loaded now get the faster products."""
    return os.environ.get("AUDIT_LIT_SPEEDUPS", "on").strip().lower() not in ("off", "0")


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


def _works() -> bool:
    """Return whether the processor gains from torch's undocumented operator, and it gives the right product."""
    x = torch.ones(2, 3)
    try:
        return torch.backends.cpu.get_cpu_capability() == "AVX512" and bool((_product(x, x, None) == 3).all())
    except (AttributeError, RuntimeError, TypeError):
        return False


ONEDNN = _works()


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the product of ``torch.nn.functional.linear``, up to rounding, by the faster of the two libraries."""
    needs_grad = x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    is_plain = (
        x.dtype == weight.dtype == torch.float32
        and x.device.type == "cpu"
        and not (torch.is_grad_enabled() and needs_grad)
        and not torch.is_autocast_enabled(x.device.type)
    )
    return _product(x, weight, bias) if ONEDNN and is_plain else nn.functional.linear(x, weight, bias)


def use_fast_linear(model: nn.Module) -> None:
    """Let the plain linear layers of a model compute by ``linear``, unless the speed-ups are off."""
    for module in model.modules():
        if type(module) is nn.Linear and are_on():
            module.forward = partial(_forward, module)  # type: ignore[method-assign]


def _forward(module: nn.Linear, x: Tensor) -> Tensor:
    return linear(x, module.weight, module.bias)


def use_fast_lora(model: PeftModel) -> None:
    """Replace the forward of every plain LoRA layer of a model in evaluation mode, unless the speed-ups are off."""
    from peft.tuners.lora import Linear

    for module in model.modules():
        if type(module) is Linear and _is_plain(module) and are_on():
            module.forward = _fast_forward(module)


def _is_plain(layer: Any) -> bool:
    """Return whether the layer is ``W x + s B A x`` alone: one adapter, a dense base, no variant such as DoRA."""
    return (
        type(layer.base_layer) is nn.Linear
        and len(layer.active_adapters) == 1
        and not layer.lora_variant
        and not layer.merged
        and not any(layer.lora_bias.values())
        and not layer.training
    )


def _fast_forward(layer: Any) -> Callable[[Tensor], Tensor]:
    adapter = layer.active_adapters[0]
    base, scaling = layer.base_layer, layer.scaling[adapter]
    down, up = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
    # Stored so that its transpose is contiguous, which halves the time of the addition below.
    up.data = up.data.T.contiguous().T

    def forward(x: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
        output = linear(x, base.weight, base.bias)
        if layer.disable_adapters:
            return output
        inner = nn.functional.linear(x.to(down.dtype), down)
        if output.dtype != up.dtype:
            update: Tensor = scaling * nn.functional.linear(inner, up)
            return output + update.to(output.dtype)
        output.view(-1, up.shape[0]).addmm_(inner.view(-1, up.shape[1]), up.T, alpha=scaling)
        return output

    return forward


def use_bf16(precision: str, device: torch.device) -> bool:
    """Return whether to compute in bfloat16; ``auto`` times a matrix product on a CPU, where it may be slower."""
    if precision != "auto" or device.type != "cpu":
        return precision != "fp32"

    def seconds(dtype: torch.dtype) -> float:
        left, right = torch.randn(512, 576, dtype=dtype), torch.randn(1536, 576, dtype=dtype)
        times = []
        for _ in range(N_TIMINGS):
            start = time.perf_counter()
            nn.functional.linear(left, right)
            times.append(time.perf_counter() - start)
        return min(times)

    return seconds(torch.bfloat16) < seconds(torch.float32)
