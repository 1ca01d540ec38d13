"""Linear layers that cost what they compute.

peft's forward takes a dozen Python steps and small tensor operations per layer, which shows when one token is decoded
at a time. Here the same formula, ``W x + s B A x``, is two products and one fused addition. The adapter stays unmerged,
because the base weights are shared with the target.

Products in float32 on a CPU go through oneDNN: MKL, which torch takes, uses half of the vector units of AMD's AVX-512.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from peft import PeftModel


def make_lean(model: PeftModel) -> None:
    """Replace the forward of a model's plain LoRA layers, in evaluation mode, and of its head; others keep theirs."""
    from peft.tuners.lora import Linear

    for module in model.modules():
        if type(module) is Linear and _is_plain(module):
            module.forward = _lean_forward(module)
    head = model.get_output_embeddings()
    if type(head) is nn.Linear:
        head.forward = lambda x: linear(x, head.weight, head.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return what ``torch.nn.functional.linear`` does, by the faster library where the two differ in rounding alone."""
    graph = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    if graph or not _ONEDNN or not (x.dtype == weight.dtype == torch.float32 and x.device.type == "cpu"):
        return nn.functional.linear(x, weight, bias)
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


_ONEDNN = torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"


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
