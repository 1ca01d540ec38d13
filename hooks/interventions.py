"""Interventions: what an edit does to the residual stream ``h`` after one block, with strength ``s``.

- ``Steer``: ``h <- h + s u d``, a direction ``d`` in units ``u`` of the layer's median residual norm.
- ``Ablate``: ``h <- h - s (h . d) d / |d|^2``, which removes a direction (arXiv 2406.11717, eq. 4).
- ``LowRank``: ``h <- h + s R'(W h + b - R h)`` with orthonormal rows ``R`` (LoReFT, arXiv 2404.03592, eq. 2).
"""

from __future__ import annotations

import reprlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import torch
from einops import repeat
from jaxtyping import Float, Int
from torch import Tensor

from audit_lit.errors import EditError
from audit_lit.hooks.model import Hook, resid_post
from audit_lit.hooks.placement import EMBEDDED, Placement

KINDS: dict[str, Any] = {
    "layer": int,
    "strength": int | float,
    "unit": int | float,
    "positions": tuple | None,
    "n_prompt": int | None,
    "prompt": Tensor | None,
    "padding": Tensor | None,
}
"""The types of an intervention's fields; the others are tensors."""


def _is_finite(value: Any) -> bool:
    """Return whether a number, or every number of a tensor, is finite as a float."""
    try:
        return bool(torch.as_tensor(value if isinstance(value, Tensor) else float(value)).isfinite().all())
    except OverflowError:
        return False


@dataclass(frozen=True, eq=False, kw_only=True)
class Intervention(ABC):
    """A change of the residual stream after one block.

    Attributes:
        layer: The block whose output is changed.
        strength: The factor of the change; 0 leaves the model as it is.
        positions: The token positions to change, counted from the first token of the prompt. None changes every token,
            generated ones included.
        n_prompt: The length in tokens of the prompt that ``positions`` count in; None if there are no positions.
        prompt: The embeddings of that prompt's tokens, by which ``hooks`` finds it in an input and refuses another.
            None checks the length alone.
        padding: The embeddings of tokens that may stand before the prompt, such as padding and BOS.
    """

    layer: int
    strength: float = 1.0
    positions: tuple[int, ...] | None = None
    n_prompt: int | None = None
    prompt: Float[Tensor, "token d_model"] | None = None
    padding: Float[Tensor, "kind d_model"] | None = None

    def __post_init__(self) -> None:
        """Refuse, by an ``EditError``, numbers that are not finite and positions that the prompt does not have."""
        for name, value in vars(self).items():
            self._check_value(name, value)
        if self.positions is not None:
            self._check_positions(self.positions)

    def _check_value(self, name: str, value: Any) -> None:
        """Raise unless the value of a field is of its kind, and every number in it is finite."""
        kind = KINDS.get(name, Tensor)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise EditError(f"got {name}={value!r:.80}; expected a value of type {getattr(kind, '__name__', kind)}.")
        if isinstance(value, int | float | Tensor) and not _is_finite(value):
            got = name if isinstance(value, Tensor) else f"{name} {reprlib.repr(value)}"
            raise EditError(f"{got} is not finite; expected finite numbers.")

    def _check_positions(self, positions: tuple[int, ...]) -> None:
        if self.n_prompt is None or self.n_prompt < 2 or not positions:
            raise EditError(
                f"got positions {positions} of a prompt of {self.n_prompt} tokens; expected at least one position, of "
                "a prompt of two tokens or more: a prompt of one token looks like a generated token."
            )
        if not all(type(position) is int and 0 <= position < self.n_prompt for position in positions):
            raise EditError(f"positions {positions} must be among 0-{self.n_prompt - 1}, the prompt's tokens.")
        if len(set(positions)) < len(positions):
            raise EditError(f"positions {positions} name a token twice; name each once.")
        if self.prompt is not None and len(self.prompt) != self.n_prompt:
            raise EditError(f"got embeddings of {len(self.prompt)} tokens for a prompt of {self.n_prompt}.")

    @abstractmethod
    def change(self, resid: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*#batch d_model"]:
        """Return what strength 1 adds to residuals, in their dtype, which is float32 or wider."""

    def tensors(self) -> dict[str, Tensor]:
        """Return the fields that hold tensors, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def moved(self, move: Callable[[Tensor], Tensor]) -> Intervention:
        """Return the intervention with a function applied to each of its tensors."""
        tensors: dict[str, Any] = {name: move(tensor) for name, tensor in self.tensors().items()}
        return replace(self, **tensors)

    def hook(self) -> Hook:
        """Return the hook that makes the change. It returns a fresh tensor, of the dtype and device of its input."""
        return resid_post(self.layer), self._write

    def hooks(self) -> list[Hook]:
        """Return the hook that makes the change; before it, one that finds the prompt, if its embeddings are known."""
        if self.prompt is None or self.positions is None:
            return [self.hook()]
        placement = Placement(self.prompt, self.padding)
        return [(EMBEDDED, placement.see), (resid_post(self.layer), partial(self._write, placement=placement))]

    def _write(self, resid: Tensor, *, hook: object = None, placement: Placement | None = None) -> Tensor:
        """Change residuals ``[batch, pos, d_model]``; a token that comes alone was generated under a KV cache."""
        width = next(iter(self.tensors().values())).shape[-1]
        if resid.shape[-1] != width:
            raise EditError(
                f"an edit of width {width} met residuals of width {resid.shape[-1]}; use it on the model that it was "
                "made for."
            )
        if self.strength == 0 or (self.positions is not None and resid.shape[1] == 1):
            return resid
        if self.positions is None:
            return self._changed(resid)
        columns = self._columns(self.positions, resid) if placement is None else placement.columns(self.positions)
        index = repeat(columns.to(resid.device), "batch slot -> batch slot d", d=width)
        return resid.scatter(1, index, self._changed(resid.gather(1, index)))

    def _columns(self, positions: tuple[int, ...], resid: Tensor) -> Int[Tensor, "batch slot"]:
        """Return the positions for each row, for an input whose tokens cannot be checked."""
        if self.n_prompt is not None and resid.shape[1] < self.n_prompt:
            raise EditError(
                f"the edit is for positions of a prompt of {self.n_prompt} tokens, but this one has {resid.shape[1]}; "
                "make an edit for this prompt."
            )
        return torch.tensor(positions).expand(len(resid), -1)

    def _changed(self, resid: Tensor) -> Tensor:
        wide = resid.to(torch.promote_types(resid.dtype, torch.float32))
        changed = (wide + self.strength * self.change(wide)).to(resid.dtype)
        if bool((wide.isfinite() & ~changed.isfinite()).any()):  # padding may hold NaN, which no other token reads
            raise EditError(
                f"a change of strength {self.strength:g} after block {self.layer} makes residuals that are not finite "
                f"in {resid.dtype}; expected a smaller strength. Scale the edit down."
            )
        return changed


@dataclass(frozen=True, eq=False, kw_only=True)
class Steer(Intervention):
    """Adds a direction.

    Attributes:
        direction: One vector, or one for each of ``positions``.
        unit: The median residual norm of the layer, so that a direction of norm 1 is as long as a typical residual.
    """

    direction: Float[Tensor, "*position d_model"]
    unit: float = 1.0

    def __post_init__(self) -> None:
        """Refuse, by an ``EditError``, directions of which there is not one in all, or one for each position."""
        super().__post_init__()
        n_positions = 0 if self.positions is None else len(self.positions)
        shape = tuple(self.direction.shape)
        if len(shape) != 1 and shape[:-1] != (n_positions,):
            raise EditError(
                f"got directions of shape {shape} for {n_positions} positions; expected [d_model], or "
                "[position, d_model] with one for each position."
            )

    def change(self, resid: Tensor) -> Tensor:
        """Return the direction, for every token."""
        return self.unit * self.direction.to(resid)


@dataclass(frozen=True, eq=False, kw_only=True)
class Ablate(Intervention):
    """Removes a direction.

    Attributes:
        direction: The direction, of any length.
    """

    direction: Float[Tensor, " d_model"]

    def __post_init__(self) -> None:
        """Refuse more than one direction by an ``EditError``."""
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
        basis: ``R``, with orthonormal rows.
        weight: ``W``.
        bias: ``b``, in the units of the residual stream.
    """

    basis: Float[Tensor, "rank d_model"]
    weight: Float[Tensor, "rank d_model"]
    bias: Float[Tensor, " rank"]

    def __post_init__(self) -> None:
        """Refuse tensors whose shapes do not match by an ``EditError``."""
        super().__post_init__()
        basis, weight, bias = (tuple(tensor.shape) for tensor in (self.basis, self.weight, self.bias))
        if len(basis) != 2 or weight != basis or bias != basis[:1]:
            raise EditError(
                f"got a basis of shape {basis}, a weight of {weight} and a bias of {bias}; expected [rank, d_model] "
                "twice, and [rank]."
            )

    def change(self, resid: Tensor) -> Tensor:
        """Return the difference between where the map puts the residuals within the subspace, and where they are."""
        basis = self.basis.to(resid)
        coordinates = resid @ self.weight.to(resid).T + self.bias.to(resid)
        return (coordinates - resid @ basis.T) @ basis


INTERVENTIONS: dict[str, type[Intervention]] = {"steer": Steer, "ablate": Ablate, "lowrank": LowRank}
"""The kinds of interventions, by their names in files."""
