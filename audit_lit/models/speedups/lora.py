"""LoRA layers that cost what they compute.

peft's forward takes a dozen Python steps and small tensor operations per layer, which shows when one token is decoded
at a time. Here the same formula, ``W x + s B A x``, is two products and one fused addition. The adapter stays unmerged,
because the base weights are shared with the target.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from audit_lit.models.speedups.linear import linear

if TYPE_CHECKING:
    from peft import PeftModel


def use_fast_lora(model: PeftModel) -> None:
    """Replace the forward of every plain LoRA layer of a model in evaluation mode; others keep peft's."""
    from peft.tuners.lora import Linear

    for module in model.modules():
        if type(module) is Linear and _is_plain(module):
            module.forward = _lean_forward(module)


def _is_plain(layer: Any) -> bool:
    """Whether the layer is ``W x + s B A x`` and nothing else: one adapter, a dense base, no variant such as DoRA."""
    return (
        type(layer.base_layer) is nn.Linear
        and len(layer.active_adapters) == 1
        and not layer.lora_variant
        and not layer.merged
        and not any(layer.lora_bias.values())
        and not layer.training
    )


def _lean_forward(layer: Any) -> Callable[[Tensor], Tensor]:
    adapter = layer.active_adapters[0]
    base, scaling = layer.base_layer, layer.scaling[adapter]
    down, up = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
    # Stored so that its transpose is contiguous, which halves the time of the addition below.
    up.data = up.data.T.contiguous().T

    def forward(x: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
        out = linear(x, base.weight, base.bias)
        if layer.disable_adapters:
            return out
        inner = nn.functional.linear(x.to(down.dtype), down)
        if out.dtype != up.dtype:
            update: Tensor = scaling * nn.functional.linear(inner, up)
            return out + update.to(out.dtype)
        out.view(-1, up.shape[0]).addmm_(inner.view(-1, up.shape[1]), up.T, alpha=scaling)
        return out

    return forward
