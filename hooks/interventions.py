"""What an edit does to the residual stream ``h`` after one block, with strength ``s``.

- ``Steer``: ``h <- h + s u d``, a direction ``d`` in units ``u`` of the layer's median residual norm.
- ``Ablate``: ``h <- h - s (h . d) d / |d|^2``, which takes a direction out (arXiv 2406.11717, eq. 4).
- ``LowRank``: ``h <- h + s R'(W h + b - R h)`` with orthonormal rows ``R`` (LoReFT, arXiv 2404.03592, eq. 2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from audit_lit.errors import EditError
from audit_lit.hooks.model import Hook, resid_post


@dataclass(frozen=True, eq=False, kw_only=True)
class Intervention:
    """A change of the residual stream after one block.

    Attributes:
        layer: Block whose output is changed.
        strength: Factor of the change; 0 leaves the model as it is.
        positions: Token positions of the prompt, counted from its first token; None changes every token, those that are
            generated, too.
        n_prompt: Length of the prompt that the positions count in, if there are any.
    """

    layer: int
    strength: float = 1.0
    positions: tuple[int, ...] | None = None
    n_prompt: int | None = None

    def __post_init__(self) -> None:
        """Refuse what could not be applied.

        Raises:
            EditError: If a number is not finite, or a position is outside the prompt or named twice.
        """
        numbers = [torch.as_tensor(value) for value in vars(self).values() if isinstance(value, int | float | Tensor)]
        if not all(bool(value.isfinite().all()) for value in numbers):
            raise EditError(
                f"strength {self.strength}, a direction or its unit is not finite; expected finite numbers."
            )
        if self.positions is None:
            return
        if self.n_prompt is None or self.n_prompt < 2 or not self.positions:
            raise EditError(
                f"got positions {self.positions} of a prompt of {self.n_prompt} tokens; expected at least one, of a "
                "prompt of two tokens or more, so that it can be told from a token that is generated."
            )
        if not all(0 <= position < self.n_prompt for position in self.positions):
            raise EditError(f"positions {self.positions} must be among 0-{self.n_prompt - 1}, the prompt's tokens.")
        if len(set(self.positions)) < len(self.positions):
            raise EditError(f"positions {self.positions} name a token twice; name each once.")

    def change(self, resid: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        """Return what strength 1 adds to residuals, in their dtype: float32 or wider."""
        raise NotImplementedError

    def tensors(self) -> dict[str, Tensor]:
        """Return the fields that hold numbers of the model's width."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in found.items() if isinstance(value, Tensor)}

    def moved(self, move: Callable[[Tensor], Tensor]) -> Intervention:
        """Return the part with something done to its tensors."""
        changed: dict[str, Any] = {name: move(tensor) for name, tensor in self.tensors().items()}
        return replace(self, **changed)

    def hook(self) -> Hook:
        """Return the hook that makes the change: a fresh tensor each time, with the dtype and device that came in."""
        return resid_post(self.layer), self._write

    def _write(self, resid: Tensor, *, hook: object = None) -> Tensor:
        """Change residuals ``[batch, pos, d_model]``; one token that comes alone follows the prompt, under a KV cache.

        Raises:
            EditError: If they are of another width, or of a prompt too short for the positions.
        """
        width = next(iter(self.tensors().values())).shape[-1]
        if resid.shape[-1] != width:
            raise EditError(
                f"an edit of width {width} met residuals of width {resid.shape[-1]}; use it on the model that it was "
                "made for."
            )
        if self.strength == 0:
            return resid
        if self.positions is None:
            return self._changed(resid)
        if resid.shape[1] == 1:
            return resid
        self._check_length(resid.shape[1])
        index = torch.tensor(self.positions, device=resid.device)
        return resid.index_copy(1, index, self._changed(resid[:, index]))

    def _changed(self, resid: Tensor) -> Tensor:
        wide = resid.to(torch.promote_types(resid.dtype, torch.float32))
        return (wide + self.strength * self.change(wide)).to(resid.dtype)

    def _check_length(self, n_tokens: int) -> None:
        if self.n_prompt is not None and n_tokens < self.n_prompt:
            raise EditError(
                f"the edit is for positions of a prompt of {self.n_prompt} tokens, but this one has {n_tokens}; make "
                "one for this prompt."
            )


@dataclass(frozen=True, eq=False, kw_only=True)
class Steer(Intervention):
    """Adds a direction.

    Attributes:
        direction: ``[d_model]``, or ``[position, d_model]`` with one for each of ``positions``.
        unit: The layer's median residual norm, so that a direction of norm 1 is as long as a typical residual.
    """

    direction: Float[Tensor, "*position d_model"]
    unit: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what could not be applied.

        Raises:
            EditError: If there are not as many directions as positions, or as ``Part`` says.
        """
        super().__post_init__()
        n_positions = 0 if self.positions is None else len(self.positions)
        shape = tuple(self.direction.shape)
        if len(shape) != 1 and shape[:-1] != (n_positions,):
            raise EditError(
                f"got directions of shape {shape} for {n_positions} positions; expected [d_model], or "
                "[position, d_model] with one for each position."
            )

    def change(self, resid: Tensor) -> Tensor:
        """Return the direction, everywhere."""
        return self.unit * self.direction.to(resid)


@dataclass(frozen=True, eq=False, kw_only=True)
class Ablate(Intervention):
    """Takes a direction out."""

    direction: Float[Tensor, " d_model"]

    def __post_init__(self) -> None:
        """Refuse what could not be applied.

        Raises:
            EditError: If there is not one direction, or as ``Part`` says.
        """
        super().__post_init__()
        if self.direction.ndim != 1:
            raise EditError(f"got a direction of shape {tuple(self.direction.shape)}; expected one, [d_model].")

    def change(self, resid: Tensor) -> Tensor:
        """Return the negative of each residual's component along the direction."""
        unit = torch.nn.functional.normalize(self.direction.to(resid), dim=-1)
        return -(resid @ unit)[..., None] * unit


@dataclass(frozen=True, eq=False, kw_only=True)
class LowRank(Intervention):
    """Moves residuals within a subspace.

    Attributes:
        basis: ``R``, orthonormal rows.
        weight: ``W``.
        bias: ``b``, in units of the residual.
    """

    basis: Float[Tensor, "rank d_model"]
    weight: Float[Tensor, "rank d_model"]
    bias: Float[Tensor, " rank"]

    def __post_init__(self) -> None:
        """Refuse what could not be applied.

        Raises:
            EditError: If the tensors' ranks differ, or as ``Part`` says.
        """
        super().__post_init__()
        basis, weight, bias = (tuple(tensor.shape) for tensor in (self.basis, self.weight, self.bias))
        if len(basis) != 2 or weight != basis or bias != basis[:1]:
            raise EditError(
                f"got a basis of shape {basis}, a weight of {weight} and a bias of {bias}; expected [rank, d_model] "
                "twice, and [rank]."
            )

    def change(self, resid: Tensor) -> Tensor:
        """Return the way to where the map wants the residuals to be within the subspace."""
        basis = self.basis.to(resid)
        wanted = resid @ self.weight.to(resid).T + self.bias.to(resid)
        return (wanted - resid @ basis.T) @ basis


INTERVENTIONS: dict[str, type[Intervention]] = {"steer": Steer, "ablate": Ablate, "lowrank": LowRank}
"""By the names that files know them under."""
