"""Activations read from a target: the only thing about a dialog that a decoder is given."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from einops import repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor

from audit_lit.errors import ActivationError


@dataclass(frozen=True)
class Activations:
    """Residual-stream vectors of chosen positions, one row per dialog.

    Attributes:
        resid: Output of each read layer at each chosen position; zero where ``mask`` is false.
        mask: False where a row has fewer positions than the longest; padding is on the right.
        token_ids: The token at each position.
        positions: Its place in the target's input.
        n_hidden: Per row, the number of hidden tokens before the first visible one.
        layers: The read layers, in the order of ``resid``.
        source: Name of the target.
    """

    resid: Float[Tensor, "batch layer slot d_model"]
    mask: Bool[Tensor, "batch slot"]
    token_ids: Int[Tensor, "batch slot"]
    positions: Int[Tensor, "batch slot"]
    n_hidden: Int[Tensor, " batch"]
    layers: tuple[int, ...]
    source: str

    def __post_init__(self) -> None:
        """Refuse values that no model computes.

        Raises:
            ActivationError: If a value is not finite, or a row has no position.
        """
        if not bool(torch.isfinite(self.resid).all()):
            raise ActivationError(
                f"the activations of {self.source!r} contain NaN or infinity at layers {list(self.layers)}; expected "
                "finite values. Check the weights, or load the target in float32 or bfloat16 instead of float16."
            )
        if not bool(self.mask.any(dim=1).all()):
            raise ActivationError("a row of activations has no position; expected at least one per dialog.")

    def __len__(self) -> int:
        """Return the number of dialogs."""
        return int(self.resid.shape[0])

    def rows(self, index: Sequence[int]) -> Activations:
        """Return the dialogs at ``index``, in that order; an index may repeat."""
        at = torch.as_tensor(list(index), device=self.resid.device)
        return replace(
            self,
            resid=self.resid[at],
            mask=self.mask[at],
            token_ids=self.token_ids[at],
            positions=self.positions[at],
            n_hidden=self.n_hidden[at],
        )

    def for_layer(self, layer: int) -> Activations:
        """Return one of the layers alone.

        Raises:
            ActivationError: If it was not read.
        """
        if layer not in self.layers:
            raise ActivationError(f"layer {layer} was not read; these activations have layers {list(self.layers)}.")
        index = self.layers.index(layer)
        return replace(self, resid=self.resid[:, index : index + 1], layers=(layer,))

    @classmethod
    def cat(cls, parts: Sequence[Activations]) -> Activations:
        """Return the dialogs of several readings of one target as one, in order."""
        longest = max(part.mask.shape[1] for part in parts)

        def joined(name: str, slot_dim: int) -> Tensor:
            values = [getattr(part, name) for part in parts]
            pads = [(0, 0) * (value.dim() - 1 - slot_dim) + (0, longest - value.shape[slot_dim]) for value in values]
            return torch.cat([torch.nn.functional.pad(v, pad) for v, pad in zip(values, pads, strict=True)])

        return replace(
            parts[0],
            resid=joined("resid", 2),
            mask=joined("mask", 1),
            token_ids=joined("token_ids", 1),
            positions=joined("positions", 1),
            n_hidden=torch.cat([part.n_hidden for part in parts]),
        )

    def vectors(self) -> tuple[Float[Tensor, "slot d_model"], Int[Tensor, " slot"]]:
        """Return one vector per decoder slot and the index of its layer: row by row, layer by layer."""
        n_batch, n_layers, n_slots, _ = self.resid.shape
        mask = repeat(self.mask, "batch slot -> batch layer slot", layer=n_layers)
        layers = torch.arange(n_layers, device=mask.device)
        index = repeat(layers, "layer -> batch layer slot", batch=n_batch, slot=n_slots)
        return self.resid[mask], index[mask]

    def save(self, path: str | Path) -> None:
        """Write a safetensors file with the layers and the source in its metadata."""
        from safetensors.torch import save_file

        names = ("resid", "mask", "token_ids", "positions", "n_hidden")
        tensors = {name: getattr(self, name).contiguous() for name in names}
        metadata = {"format": "audit-lit activations 1", "layers": json.dumps(self.layers), "source": self.source}
        save_file(tensors, path, metadata=metadata)

    @classmethod
    def load(cls, path: str | Path) -> Activations:
        """Read what ``save`` wrote.

        Raises:
            ActivationError: If the file is of another kind or cut short.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return cls(**tensors, layers=tuple(json.loads(metadata["layers"])), source=metadata["source"])
        except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as err:
            raise ActivationError(
                f"{path} is not a complete file of activations ({err}); expected one written by Activations.save."
            ) from err
