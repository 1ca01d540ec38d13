"""Files of activations: safetensors with metadata, in the formats of docs/activations.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from audit_lit.errors import ActivationError
from audit_lit.files.reading import require_regular
from audit_lit.files.writing import replacing

FORMAT_1, FORMAT_2 = "audit-lit activations 1", "audit-lit activations 2"
"""Activations alone; those of one dialog with its controls, and the layers' convention written down."""
CONVENTION = "output of block L, counted from 0"
"""What a layer is, in words that a file of format 2 must repeat."""


def write_file(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a file as a whole, or not at all.

    Raises:
        ActivationError: If it cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        with replacing(path) as unfinished:
            # cloned, since safetensors refuses tensors that share memory
            copies = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
            save_file(copies, unfinished, metadata=metadata)
    except (OSError, SafetensorError) as err:
        raise ActivationError(f"the activations could not be written to {path} ({err}); name another file.") from err


def read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a file of either format.

    Raises:
        ActivationError: If it cannot be read, is of another kind or a newer format, or counts layers in another way.
    """
    from safetensors import SafetensorError, safe_open

    try:
        require_regular(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as err:
        raise broken(path, err) from err
    form = metadata.get("format", FORMAT_1)  # other writers of the first format may have left it out
    if form not in (FORMAT_1, FORMAT_2):
        raise ActivationError(
            f"{path} is of format {form!r}; expected {FORMAT_1!r} or {FORMAT_2!r}. If it is newer, upgrade audit-lit."
        )
    if form == FORMAT_2 and metadata.get("convention") != CONVENTION:
        raise ActivationError(
            f"{path} counts its layers as {metadata.get('convention')!r}; expected {CONVENTION!r}, which is "
            "hidden_states[L + 1] of transformers. Number the layers so, and write the file again."
        )
    return tensors, metadata


def check_tensors(tensors: Mapping[str, Tensor], layers: Any) -> None:
    """Raise ``ValueError`` unless the tensors of one reading have the shapes and types that belong together."""
    resid = tensors["resid"]
    if not isinstance(layers, list) or not all(type(layer) is int and layer >= 0 for layer in layers):
        raise ValueError(f"the layers are {layers!r:.80}; expected a list of numbers from 0")
    if len(set(layers)) < len(layers):
        raise ValueError(f"the layers {layers} name one twice")
    if resid.ndim != 4 or not resid.is_floating_point() or not resid.numel():
        raise ValueError(f"resid is {_kind(resid)}; expected floats [row, layer, slot, d_model]")
    n_rows, n_layers, n_slots, _ = resid.shape
    if n_layers != len(layers):
        raise ValueError(f"resid holds {n_layers} layers, and the metadata names {len(layers)}: {layers}")
    for name in ("mask", "token_ids", "positions", "n_hidden"):
        tensor, shape = tensors[name], (n_rows,) if name == "n_hidden" else (n_rows, n_slots)
        is_bool = str(tensor.dtype) == "torch.bool"
        if tuple(tensor.shape) != shape or is_bool != (name == "mask") or tensor.is_floating_point():
            kind = "bool" if name == "mask" else "integers"
            raise ValueError(f"{name} is {_kind(tensor)}; expected {kind} of shape {list(shape)}")


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {list(tensor.shape)}"


def broken(path: str | Path, err: Exception) -> ActivationError:
    """Return the error to raise for a file that is none of activations, or an incomplete one."""
    return ActivationError(
        f"{path} is not a complete file of activations ({err}); expected one written by Activations.save or "
        "Reading.save. Write or fetch it again."
    )
