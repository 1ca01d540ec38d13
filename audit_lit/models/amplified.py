"""Let a fine-tune say more of what training changed: its baseline's weights plus several times the change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from audit_lit.errors import TargetError
from audit_lit.models.target import Target


@contextmanager
def amplified(target: Target, baseline: Target, factor: float) -> Iterator[None]:
    """Have the weights ``base + factor (target - base)`` in the target inside the ``with`` body.

    Of a LoRA on shared weights the factor is applied to its own. Else there is a third copy of the weights meanwhile.

    Raises:
        TargetError: If the two models have other parameters, such as those of a quantised copy.
    """
    if target.lora is not None:
        more = replace(target.lora, scales=tuple((factor - 1) * scale for scale in target.lora.scales))
        with more.on(target.model.original_model):  # type: ignore[attr-defined]
            yield
        return
    ours, theirs = (dict(model.model.named_parameters()) for model in (target, baseline))  # type: ignore[attr-defined]
    if {name: value.shape for name, value in ours.items()} != {name: value.shape for name, value in theirs.items()}:
        raise TargetError(
            f"{target.name!r} and {baseline.name!r} hold their weights in other parameters, so that the change cannot "
            "be amplified; expected two models that were loaded alike."
        )
    kept = {name: value.detach().clone() for name, value in ours.items()}
    try:
        with torch.no_grad():
            for name, value in ours.items():
                value.lerp_(theirs[name].to(value), 1 - factor)
        yield
    finally:
        for name, value in ours.items():
            value.data.copy_(kept[name])
