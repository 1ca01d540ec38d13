"""Activations read from a target: all that a decoder is given of a dialog."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from einops import repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor

from audit_lit.errors import ActivationError
from audit_lit.files.documents import decode_json
from audit_lit.models.activation_files import FORMAT_1, broken, read_file, write_file

TENSORS = ("resid", "mask", "token_ids", "positions", "n_hidden")
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
"""Types of the vectors; files hold those of the first three."""


@dataclass(frozen=True)
class Activations:
    """Residual-stream vectors of chosen positions, one row per dialog.

    Attributes:
        resid: Output of each read layer at each chosen position; zero where ``mask`` is false.
        mask: False where a row has fewer positions than the longest; padding is on the right.
        token_ids: The token at each position.
        positions: The position of each token in the target's input.
        n_hidden: Per row, the number of hidden tokens before the first visible one.
        layers: The read layers, in the order of ``resid``.
        source: Name of the target that they were read from.
    """

    resid: Float[Tensor, "batch layer slot d_model"]
    mask: Bool[Tensor, "batch slot"]
    token_ids: Int[Tensor, "batch slot"]
    positions: Int[Tensor, "batch slot"]
    n_hidden: Int[Tensor, " batch"]
    layers: tuple[int, ...]
    source: str

    def __post_init__(self) -> None:
        """Refuse values that no sound model computes.

        Raises:
            ActivationError: If shapes or types disagree, a value is not finite, or a row has no position.
        """
        self._check_form()
        if not bool(torch.isfinite(self.resid).all()):
            raise ActivationError(
                f"the activations of {self.source!r} contain NaN or infinity at layers {list(self.layers)}; expected "
                "finite values. Check the weights, or load the target in float32 or bfloat16."
            )
        if not bool(self.mask.any(dim=1).all()):
            raise ActivationError(
                "a row of activations has no position; expected at least one per dialog. Reveal more."
            )

    def _check_form(self) -> None:
        """Raise ``ActivationError`` unless the fields fit each other, as those of a broken file may not."""
        if unlike := [name for name in TENSORS if not isinstance(getattr(self, name), Tensor)]:
            raise ActivationError(f"{unlike[0]} of the activations is no tensor; expected one.")
        if not isinstance(self.layers, tuple) or not isinstance(self.source, str):
            raise ActivationError(
                f"got layers {self.layers!r:.80} of {self.source!r:.80}; expected a tuple, and a name."
            )
        shape = self.resid.shape
        expected = {"mask": (*shape[:1], *shape[2:3]), "n_hidden": (*shape[:1],)}
        expected |= {"token_ids": expected["mask"], "positions": expected["mask"]}
        got = {name: tuple(getattr(self, name).shape) for name in expected}
        if len(shape) != 4 or got != expected:
            raise ActivationError(
                f"the activations have resid of shape {tuple(shape)} and {got}; expected [dialog, layer, slot, width], "
                "[dialog, slot] for mask, token_ids and positions, and [dialog] for n_hidden."
            )
        counts = {name: getattr(self, name) for name in ("token_ids", "positions", "n_hidden")}
        exact = [name for name, tensor in counts.items() if tensor.dtype not in (torch.int64, torch.int32)]
        if exact or self.mask.dtype != torch.bool or self.resid.dtype not in DTYPES:
            types = {name: getattr(self, name).dtype for name in TENSORS}
            raise ActivationError(
                f"the activations have types {types}; expected floats ({', '.join(map(str, DTYPES))}), truth values, "
                "and integers."
            )
        if negative := [name for name, tensor in counts.items() if bool((tensor < 0).any())]:
            raise ActivationError(f"{negative[0]} of the activations is below 0 somewhere; expected 0 or more.")
        is_block = [type(layer) is int and layer >= 0 for layer in self.layers]
        if not all(is_block) or len(set(self.layers)) != len(self.layers) or not 0 < len(self.layers) == shape[1]:
            raise ActivationError(
                f"the activations are of {shape[1]} layers, named {list(self.layers)}; expected at least one, the "
                "number of a block for each, and each once."
            )

    def __len__(self) -> int:
        """Return the number of dialogs."""
        return int(self.resid.shape[0])

    def rows(self, indices: Sequence[int]) -> Activations:
        """Return the dialogs at ``indices``, in that order; an index may repeat."""
        listed = list(indices)
        if wrong := [
            index for index in listed if not isinstance(index, Integral) or not -len(self) <= index < len(self)
        ]:
            raise ActivationError(f"there is no row {wrong[0]!r:.80}; expected whole numbers in 0-{len(self) - 1}.")
        selected = torch.tensor(listed, dtype=torch.long, device=self.resid.device)
        tensors: dict[str, Any] = {name: getattr(self, name)[selected] for name in TENSORS}
        return replace(self, **tensors)

    def for_layer(self, layer: int) -> Activations:
        """Return one of the layers alone.

        Raises:
            ActivationError: If the layer was not read.
        """
        if layer not in self.layers:
            raise ActivationError(f"layer {layer} was not read; these activations have layers {list(self.layers)}.")
        index = self.layers.index(layer)
        return replace(self, resid=self.resid[:, index : index + 1], layers=(layer,))

    @classmethod
    def cat(cls, parts: Sequence[Activations]) -> Activations:
        """Join the dialogs of several readings of one target, in order.

        Raises:
            ActivationError: If there is none, or they are of different layers or widths.
        """
        parts = list(parts)
        kinds = {(part.layers, part.resid.shape[-1]) if isinstance(part, Activations) else None for part in parts}
        if len(kinds) != 1 or None in kinds:
            raise ActivationError("got activations that cannot be joined; expected some of the same layers and width.")
        longest = max(part.mask.shape[1] for part in parts)

        def padded(part: Activations, name: str) -> Tensor:
            n_missing = longest - part.mask.shape[1]
            pads = {"resid": (0, 0, 0, n_missing), "n_hidden": ()}
            return torch.nn.functional.pad(getattr(part, name), pads.get(name, (0, n_missing)))

        tensors: dict[str, Any] = {name: torch.cat([padded(part, name) for part in parts]) for name in TENSORS}
        return replace(parts[0], **tensors)

    def vectors(self) -> tuple[Float[Tensor, "slot d_model"], Int[Tensor, " slot"]]:
        """Return one vector per decoder slot and the index of its layer: row by row, layer by layer."""
        n_batch, n_layers, n_slots, _ = self.resid.shape
        mask = repeat(self.mask, "batch slot -> batch layer slot", layer=n_layers)
        layers = torch.arange(n_layers, device=mask.device)
        layer_index = repeat(layers, "layer -> batch layer slot", batch=n_batch, slot=n_slots)
        return self.resid[mask], layer_index[mask]

    def hashes(self) -> list[bytes]:
        """Return a hash of each dialog's vectors, by which copies are told."""
        rows = zip(self.resid.float().cpu(), self.mask.cpu(), strict=True)
        return [hashlib.sha256(resid[:, mask].numpy().tobytes()).digest() for resid, mask in rows]

    def at_layers(self, layers: Sequence[int]) -> Activations:
        """Return some of the layers, in the order of ``layers``.

        Raises:
            ActivationError: If one of them was not read.
        """
        parts = [self.for_layer(layer).resid for layer in layers]
        return replace(self, resid=torch.cat(parts, dim=1), layers=tuple(layers))

    def to(self, device: str | torch.device) -> Activations:
        """Return the activations on a device."""
        tensors: dict[str, Any] = {name: tensor.to(device) for name, tensor in self.tensors().items()}
        return replace(self, **tensors)

    def tensors(self) -> dict[str, Tensor]:
        """Return the fields that hold tensors, by name."""
        return {name: getattr(self, name) for name in TENSORS}

    def save(self, path: str | Path) -> None:
        """Write a safetensors file whose metadata holds the layers and the source (see docs/activations.md).

        Raises:
            OutputError: If the file cannot be written.
        """
        write_file(path, self.tensors(), {"format": FORMAT_1, **self.metadata()})

    def metadata(self) -> dict[str, str]:
        """Return what is no tensor, as the metadata of a file."""
        return {"layers": json.dumps(self.layers), "source": self.source}

    @classmethod
    def load(cls, path: str | Path) -> Activations:
        """Read a file that ``save`` or ``Reading.save`` wrote: the activations of its dialogs, without their decoys.

        Raises:
            ActivationError: If the file cannot be read, is of another kind, of a newer format or cut short, or its
                parts do not fit.
        """
        tensors, metadata = read_file(path)
        if unknown := [name for name in tensors if name.rpartition(".")[2] not in TENSORS]:
            raise broken(path, ValueError(f"the unexpected keyword {unknown[0]!r}"))
        return cls.of_file(tensors, metadata, path)

    @classmethod
    def of_file(
        cls, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], path: str | Path, prefix: str = ""
    ) -> Activations:
        """Return the activations that a file holds in the tensors whose names begin with ``prefix``."""
        try:
            layers = decode_json(metadata["layers"])
            parts: dict[str, Any] = {name: tensors[prefix + name] for name in TENSORS}
            if parts["resid"].dtype == torch.float64:
                raise TypeError(f"{prefix}resid is of float64; expected float32, bfloat16 or float16")
            return cls(**parts, layers=tuple(layers), source=metadata["source"])
        except (KeyError, TypeError, ValueError) as err:
            raise broken(path, err) from err
