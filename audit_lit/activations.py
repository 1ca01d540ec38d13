"""Activations read from a target: the only thing about a dialog that a decoder is given."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from einops import repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor

from audit_lit.dialog import Rendered
from audit_lit.errors import ActivationError, DialogError
from audit_lit.hooks import capture, resolve_layers

if TYPE_CHECKING:
    from audit_lit.target import Target


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

    def at(self, layer: int) -> Activations:
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


def read(
    target: Target,
    dialogs: Sequence[Rendered],
    positions: Sequence[Sequence[int]],
    layers: Sequence[int],
    *,
    grad: bool = False,
) -> Activations:
    """Run the target once over a batch of dialogs and keep the chosen positions.

    Args:
        target: The model to read.
        dialogs: Rendered dialogs; shorter ones are padded on the left.
        positions: Token positions per dialog.
        layers: Read layers.
        grad: Keep the graph (see ``capture``).

    Raises:
        DialogError: If a dialog is longer than the target's context.
    """
    layers = resolve_layers(layers, target.n_layers)
    longest = max(len(dialog.token_ids) for dialog in dialogs)
    if longest > target.n_ctx:
        raise DialogError(
            f"the dialog has {longest} tokens; the target's context holds {target.n_ctx}. Drop or shorten turns."
        )
    tokens, attention_mask = pad_left([dialog.token_ids for dialog in dialogs], target)
    places, mask = pad_right(positions)
    shift = torch.tensor([longest - len(dialog.token_ids) for dialog in dialogs])
    columns = (places + shift[:, None]).to(target.device)
    cache = capture(target.model, tokens, attention_mask, layers, positions=columns, grad=grad)
    mask = mask.to(target.device)
    resid = torch.stack([cache[layer] for layer in layers], dim=1) * mask[:, None, :, None]
    return Activations(
        resid=resid,
        mask=mask,
        token_ids=tokens.gather(1, columns),
        positions=places.to(target.device),
        n_hidden=torch.tensor([dialog.n_hidden for dialog in dialogs], device=target.device),
        layers=layers,
        source=target.name,
    )


def read_many(
    target: Target,
    dialogs: Sequence[Rendered],
    positions: Sequence[Sequence[int]],
    layers: Sequence[int],
    *,
    batch_size: int = 16,
) -> Activations:
    """Read any number of dialogs in batches of similar length, so that little padding is computed; order is kept."""
    order = sorted(range(len(dialogs)), key=lambda index: len(dialogs[index].token_ids))
    parts = []
    for start in range(0, len(order), batch_size):
        chunk = order[start : start + batch_size]
        parts.append(read(target, [dialogs[i] for i in chunk], [positions[i] for i in chunk], layers))
    inverse = sorted(range(len(order)), key=order.__getitem__)
    return Activations.cat(parts).rows(inverse)


def pad_left(
    rows: Sequence[Sequence[int]], target: Target
) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch pos"]]:
    """Return ragged rows as one tensor, padded on the left, and the attention mask."""
    longest = max(len(row) for row in rows)
    pad = target.tokenizer.pad_token_id or 0
    tokens = torch.tensor([[pad] * (longest - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    return tokens.to(target.device), mask.to(target.device)


def pad_right(rows: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "batch slot"], Bool[Tensor, "batch slot"]]:
    """Return ragged rows as one tensor, padded with 0 on the right, and where they are real."""
    longest = max(len(row) for row in rows)
    values = torch.tensor([list(row) + [0] * (longest - len(row)) for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    return values, torch.arange(longest) < lengths[:, None]
