"""What other tools would keep of a run: the outputs of the tiny model's blocks, by plain transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.hooked_models import residuals
from torch import Tensor


@pytest.fixture
def outputs(target: Any) -> Callable[[list[int]], list[Tensor]]:
    """Return a function from token ids to the output of each block, [1, position, d_model]."""

    def run(token_ids: list[int]) -> list[Tensor]:
        return residuals(target.base, target.base.model.layers, torch.tensor([token_ids]))

    return run
