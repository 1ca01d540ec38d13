"""The methods that make activation edits: what is learnt, and how it becomes interventions.

Strength is measured in median residual norms of a layer: 0.2 moves each residual by a fifth of a typical residual.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from audit_lit.edits.objective import Group, Objective, descend
from audit_lit.edits.prompt import prompt_fields
from audit_lit.edits.recipe import EditSettings
from audit_lit.errors import EditError
from audit_lit.hooks import Hook, Intervention, LowRank, Steer


@dataclass(frozen=True)
class Fit:
    """Where and how an edit is fitted; ``units`` are the median residual norms of its layers."""

    layers: tuple[int, ...]
    units: Mapping[int, float]
    settings: EditSettings

    @property
    def strength(self) -> float:
        """Length of the longest change at one layer, so that all layers together reach the strength of the settings."""
        return self.settings.strength / math.sqrt(len(self.layers))

    def groups(self, objective: Objective, learnt: Mapping[int, Sequence[Tensor]]) -> list[Group]:
        """Return the losses that the parameters of each layer follow."""
        if self.settings.local:
            return [(objective.for_layer(layer), parameters) for layer, parameters in learnt.items()]
        return [(objective, [parameter for parameters in learnt.values() for parameter in parameters])]


def vector(objective: Objective, fit: Fit) -> tuple[Intervention, ...]:
    """Return one direction per layer, the same for every token of every dialog.

    ``d <- d - lr Adam(mean over dialogs of dL/dd)``, kept in the ball of radius ``strength``. It is the steering vector
    that follows from the averaged gradient of the decoder's loss (LatentQA, arXiv 2412.08686, section 3.3).
    """
    directions = {
        layer: torch.zeros(objective.target.d_model, device=objective.target.device, requires_grad=True)
        for layer in fit.layers
    }
    return tuple(
        replace(steer, direction=normalize(steer.direction, dim=-1), strength=float(steer.direction.norm()))
        for steer in _fit_directions(objective, fit, directions)
    )


def gradient(objective: Objective, fit: Fit) -> tuple[Intervention, ...]:
    """Return a change for each position of one prompt that the decoder reads.

    ``A <- A - lr Adam(dL/dA)``, with the change of each position kept in the ball of radius ``strength`` (LatentQA's
    STEER, arXiv 2412.08686, section 3.3; its published code does not edit activations).
    """
    if len(objective.dialogs) != 1:
        raise EditError(
            f"method 'gradient' changes positions of one prompt, but got {len(objective.dialogs)} dialogs; make an "
            "edit for each, or one for all with method='vector'."
        )
    (positions,), (dialog,) = objective.positions, objective.dialogs
    shape = (len(positions), objective.target.d_model)
    changes = {layer: torch.zeros(shape, device=objective.target.device, requires_grad=True) for layer in fit.layers}
    placement = prompt_fields(objective.target, dialog.token_ids)
    return _fit_directions(objective, fit, changes, positions=positions, **placement)


def lowrank(objective: Objective, fit: Fit) -> tuple[Intervention, ...]:
    """Return a map within a subspace per layer.

    ``h <- h + R'(W h + b - R h)`` (LoReFT, Wu et al., arXiv 2404.03592, eq. 2, there trained on the loss of a task).
    ``W`` starts as ``R`` and ``b`` as 0, so that nothing changes at first. ``b`` and the rows of ``W - R`` are bounded,
    so that a residual of median norm is moved by ``strength`` at most.
    """
    rank, d_model, device = fit.settings.rank, objective.target.d_model, objective.target.device
    if rank > d_model:
        raise EditError(f"rank={rank} is more than the target's d_model; expected at most {d_model}.")
    generator = torch.Generator().manual_seed(fit.settings.seed)
    learnt: dict[int, list[Tensor]] = {}
    for layer in fit.layers:
        basis = torch.linalg.qr(torch.randn(d_model, rank, generator=generator))[0].T.to(device).requires_grad_()
        change, bias = torch.zeros_like(basis, requires_grad=True), basis.new_zeros(rank).requires_grad_()
        learnt[layer] = [basis, change, bias]
    # Views of the same storage; of the bias, each entry is a row.
    bounded = [tensor.detach().view(rank, -1) for _, change, bias in learnt.values() for tensor in (change, bias)]
    _descend(objective, fit, learnt, lambda: _maps(learnt, fit), bounded, fit.strength / (2 * math.sqrt(rank)))
    return tuple(low_rank.moved(lambda tensor: tensor.detach().clone()) for low_rank in _maps(learnt, fit))


def _maps(learnt: Mapping[int, Sequence[Tensor]], fit: Fit) -> list[LowRank]:
    maps = []
    for layer, (rows, change, bias) in learnt.items():
        basis = torch.linalg.qr(rows.T)[0].T  # orthonormal again after each step
        maps.append(LowRank(layer=layer, basis=basis, weight=basis + change, bias=bias * fit.units[layer]))
    return maps


def _fit_directions(
    objective: Objective, fit: Fit, directions: Mapping[int, Tensor], **placement: Any
) -> tuple[Steer, ...]:
    """Fit the direction of each layer, in its median residual norms."""

    def steers() -> list[Steer]:
        return [
            Steer(layer=layer, direction=direction, unit=fit.units[layer], **placement)
            for layer, direction in directions.items()
        ]

    _descend(objective, fit, {layer: [direction] for layer, direction in directions.items()}, steers)
    return tuple(replace(steer, direction=steer.direction.detach()) for steer in steers())


def _descend(
    objective: Objective,
    fit: Fit,
    learnt: Mapping[int, Sequence[Tensor]],
    interventions: Callable[[], Sequence[Intervention]],
    bounded: Sequence[Tensor] | None = None,
    limit: float | None = None,
) -> None:
    """Fit the learnt tensors of each layer, and keep the rows of the bounded ones (None: of all) within a norm.

    ``interventions`` returns the interventions with the present tensors; without a ``limit``, the norm is the strength.
    """
    bounded = [tensor for tensors in learnt.values() for tensor in tensors] if bounded is None else bounded
    limit = fit.strength if limit is None else limit

    def hooks() -> list[Hook]:
        return [intervention.hook() for intervention in interventions()]

    def after() -> None:
        for tensor in bounded:
            tensor.mul_((limit / tensor.norm(dim=-1, keepdim=True).clamp_min(1e-12)).clamp_max(1.0))

    descend(fit.groups(objective, learnt), hooks, fit.settings, lr=fit.settings.step * limit, after=after)


METHODS = {"vector": vector, "gradient": gradient, "lowrank": lowrank}
"""The methods that give an ``ActivationEdit``; ``weights`` gives an adapter (see ``weights.py``)."""
