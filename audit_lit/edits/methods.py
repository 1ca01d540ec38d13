"""The ways to make an edit: what is learnt, and how it becomes interventions.

Strength is in units of a layer's median residual norm: 0.2 moves each residual by a fifth of a typical one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from audit_lit.edits.objective import Group, Objective, descend
from audit_lit.edits.recipe import EditSettings
from audit_lit.errors import EditError
from audit_lit.hooks import Hook, Intervention, LowRank, Steer


@dataclass(frozen=True)
class Fit:
    """Where and how an edit is fitted.

    Attributes:
        layers: Blocks whose output is changed.
        units: Median residual norm of each layer.
        settings: The rest.
    """

    layers: tuple[int, ...]
    units: Mapping[int, float]
    settings: EditSettings

    @property
    def strength(self) -> float:
        """Longest change at one layer, so that all together have the length of the settings."""
        return self.settings.strength / math.sqrt(len(self.layers))

    def groups(self, objective: Objective, learnt: Mapping[int, Sequence[Tensor]]) -> list[Group]:
        """Return the losses that decide each layer's parameters."""
        if self.settings.local:
            return [(objective.for_layer(layer), parameters) for layer, parameters in learnt.items()]
        return [(objective, [parameter for parameters in learnt.values() for parameter in parameters])]


def vector(objective: Objective, fit: Fit) -> tuple[Intervention, ...]:
    """Return one direction per layer, the same for every token of every dialog.

    ``d <- d - lr Adam(mean over dialogs of dL/dd)``, kept in the ball of radius ``strength``: the steering vector that
    the averaged gradient of the decoder's loss gives (LatentQA, arXiv 2412.08686, section 3.3, for activations).
    """
    directions = {
        layer: torch.zeros(objective.target.d_model, device=objective.target.device, requires_grad=True)
        for layer in fit.layers
    }
    return tuple(
        replace(steer, direction=_unit(steer.direction), strength=float(steer.direction.norm()))
        for steer in _fit_directions(objective, fit, directions)
    )


def gradient(objective: Objective, fit: Fit) -> tuple[Intervention, ...]:
    """Return a change for each position that the decoder reads of one dialog's prompt.

    ``A <- A - lr Adam(dL/dA)``, each position's change kept in the ball of radius ``strength`` (LatentQA's STEER, arXiv
    2412.08686, section 3.3; its code leaves the edit of activations out).

    Raises:
        EditError: If there are several dialogs.
    """
    if len(objective.dialogs) != 1:
        raise EditError(
            f"method 'gradient' changes positions of one prompt, but got {len(objective.dialogs)} dialogs; make an "
            "edit for each, or one for all with method='vector'."
        )
    (positions,), (dialog,) = objective.positions, objective.dialogs
    where: dict[str, Any] = {"positions": positions, "n_prompt": len(dialog.token_ids)}
    shape = (len(positions), objective.target.d_model)
    changes = {layer: torch.zeros(shape, device=objective.target.device, requires_grad=True) for layer in fit.layers}
    return _fit_directions(objective, fit, changes, **where)


def lowrank(objective: Objective, fit: Fit) -> tuple[Intervention, ...]:
    """Return a map within a subspace per layer, learnt on the decoder's loss.

    ``h <- h + R'(W h + b - R h)`` (LoReFT, Wu et al., arXiv 2404.03592, eq. 2, there for a task's loss). ``W`` starts
    as ``R`` and ``b`` as 0, so that nothing is changed at first. ``b`` and the rows of ``W - R`` are bounded so that a
    residual of median norm is moved by ``strength`` at most.
    """
    generator = torch.Generator().manual_seed(fit.settings.seed)
    d_model, device = objective.target.d_model, objective.target.device
    rank = fit.settings.rank
    learnt: dict[int, list[Tensor]] = {}
    for layer in fit.layers:
        basis = torch.linalg.qr(torch.randn(d_model, rank, generator=generator))[0].T.to(device).requires_grad_()
        change, bias = torch.zeros_like(basis, requires_grad=True), basis.new_zeros(rank).requires_grad_()
        learnt[layer] = [basis, change, bias]

    def interventions() -> list[Intervention]:
        maps: list[Intervention] = []
        for layer, (turned, change, bias) in learnt.items():
            basis = torch.linalg.qr(turned.T)[0].T
            scaled = {"weight": basis + change, "bias": bias * fit.units[layer]}
            maps.append(LowRank(layer=layer, basis=basis, **scaled))
        return maps

    # Views of the same storage: the bias as one row for each of its entries.
    bounded = [tensor.detach().view(rank, -1) for _, *both in learnt.values() for tensor in both]
    _descend(objective, fit, learnt, interventions, bounded, fit.strength / (2 * math.sqrt(rank)))
    return tuple(map_.moved(lambda tensor: tensor.detach().clone()) for map_ in interventions())


def _fit_directions(
    objective: Objective, fit: Fit, directions: Mapping[int, Tensor], **where: Any
) -> tuple[Steer, ...]:
    """Fit the direction of each layer, in units of its median residual norm."""

    def steers() -> list[Steer]:
        return [
            Steer(layer=layer, direction=direction, unit=fit.units[layer], **where)
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
    """Take the steps, and keep the rows of what is bounded (of everything, if None) within a norm (the strength)."""
    rows = [tensor for tensors in learnt.values() for tensor in tensors] if bounded is None else bounded
    limit = fit.strength if limit is None else limit

    def hooks() -> list[Hook]:
        return [intervention.hook() for intervention in interventions()]

    def after() -> None:
        for tensor in rows:
            tensor.mul_((limit / tensor.norm(dim=-1, keepdim=True).clamp_min(1e-12)).clamp_max(1.0))

    settings = fit.settings
    descend(
        fit.groups(objective, learnt),
        hooks,
        steps=settings.steps,
        lr=settings.step * limit,
        batch_size=settings.batch_size,
        seed=settings.seed,
        after=after,
    )


def _unit(direction: Tensor) -> Tensor:
    return nn.functional.normalize(direction, dim=-1)


METHODS = {"vector": vector, "gradient": gradient, "lowrank": lowrank}
"""Those that give an ``ActivationEdit``; ``weights`` gives an adapter (see ``weights.py``)."""
