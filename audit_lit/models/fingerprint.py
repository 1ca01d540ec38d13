"""A hash of a model's weights."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def weights_fingerprint(model: PreTrainedModel) -> str:
    """Return a hash of a few values of every parameter, rounded to bfloat16: it tells a fine-tune from its base."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        few = parameter.detach().flatten()[:64].to("cpu", torch.bfloat16)
        digest.update(name.encode() + few.contiguous().view(torch.int16).numpy().tobytes())
    return digest.hexdigest()[:16]
