"""nnsight (0.8): outputs of blocks, saved by ``model.model.layers[L].output.save()`` inside a trace.

An output is the residuals, [position, d_model] or [1, position, d_model]; in older versions of transformers it is a
tuple that begins with them. Layer L is the output of block L, as ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from audit_lit.errors import ActivationError
from audit_lit.exchange.runs import Run


def from_nnsight(outputs: Mapping[int, Any]) -> Run:
    """Return a run that nnsight made of one prompt.

    Args:
        outputs: The saved output of each block, by its number.

    Raises:
        ActivationError: If the outputs are not those of one prompt.
    """
    if not outputs:
        raise ActivationError(
            "got no output; expected {layer: saved}, with saved = model.model.layers[layer].output.save()."
        )
    residuals = [_residuals(layer, output) for layer, output in outputs.items()]
    if len({tuple(resid.shape) for resid in residuals}) > 1:
        shapes = {layer: list(resid.shape) for layer, resid in zip(outputs, residuals, strict=True)}
        raise ActivationError(f"the outputs have the shapes {shapes}; expected the same tokens at every layer.")
    return Run(torch.stack(residuals), tuple(outputs))


def _residuals(layer: int, output: Any) -> Tensor:
    output = getattr(output, "value", output)  # a proxy of versions before 0.5
    resid = torch.as_tensor(output[0] if isinstance(output, tuple | list) else output)
    resid = resid[0] if resid.ndim == 3 and len(resid) == 1 else resid
    if resid.ndim != 2:
        raise ActivationError(
            f"the output of layer {layer} has the shape {list(resid.shape)}; expected [position, d_model] of one "
            "prompt. Trace the prompts one by one, so that none is padded."
        )
    return resid
