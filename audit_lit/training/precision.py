"""Whether a training run computes in bfloat16."""

from __future__ import annotations

import time

import torch
from torch import nn

N_TIMINGS = 10


def use_bf16(precision: str, device: torch.device) -> bool:
    """Return whether to compute in bfloat16; ``auto`` times a matrix product on a CPU, where it may be slower."""
    if precision != "auto" or device.type != "cpu":
        return precision != "fp32"
    return _seconds(torch.bfloat16) < _seconds(torch.float32)


def _seconds(dtype: torch.dtype) -> float:
    """Return the shortest time of a matrix product."""
    left, right = torch.randn(512, 576, dtype=dtype), torch.randn(1536, 576, dtype=dtype)
    times = []
    for _ in range(N_TIMINGS):
        start = time.perf_counter()
        nn.functional.linear(left, right)
        times.append(time.perf_counter() - start)
    return min(times)
