"""vllm-lens (UKGovernmentBEIS/vllm-lens, 1.3): what ``extra_args={"output_residual_stream": layers}`` keeps.

Its layer L is the output of block L, as ours: ``hidden_states[L + 1]`` (its ``tests/test_activations_match.py``). The
rows of ``residual_stream`` are in the order of the layers, whatever the order of the list (``_worker_ext.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from audit_lit.errors import ActivationError
from audit_lit.exchange.runs import Run

KEY = "residual_stream"


def from_vllm_lens(activations: Mapping[str, Any], layers: Sequence[int]) -> Run:
    """Return a run that vllm-lens made.

    Args:
        activations: ``output.activations`` of one prompt, whose ``residual_stream`` has the shape [layer, position,
            d_model]. Run with ``max_tokens=1``, since generated tokens are kept as well.
        layers: The list that ``output_residual_stream`` was set to.

    Raises:
        ActivationError: If there is no residual stream, or it is not of these layers.
    """
    if KEY not in activations:
        raise ActivationError(
            f"the output of vllm-lens holds {', '.join(map(repr, activations)) or 'nothing'}; expected {KEY!r}. Set "
            'extra_args={"output_residual_stream": layers} in SamplingParams.'
        )
    return Run(torch.as_tensor(activations[KEY]), tuple(sorted(layers)))
