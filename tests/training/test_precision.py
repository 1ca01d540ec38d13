"""Precision: ``auto`` is decided by timing."""

from __future__ import annotations

from typing import Any

import pytest
import torch


def test_auto_precision_is_decided_by_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    from audit_lit.training import precision

    cpu = torch.device("cpu")
    assert precision.use_bf16("bf16", cpu) and not precision.use_bf16("fp32", cpu)
    real = torch.nn.functional.linear

    def slow_in(dtype: torch.dtype) -> Any:
        def linear(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
            for _ in range(50 if left.dtype == dtype else 1):
                out = real(left, right)
            return out

        return linear

    for dtype, expected in ((torch.bfloat16, False), (torch.float32, True)):
        monkeypatch.setattr(precision.nn.functional, "linear", slow_in(dtype))
        assert precision.use_bf16("auto", cpu) is expected
