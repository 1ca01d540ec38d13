"""Files of activations: safetensors with metadata, in the formats of docs/activations.md."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from audit_lit.errors import ActivationError, OutputError
from audit_lit.files.paths import as_path
from audit_lit.files.reading import require_regular
from audit_lit.files.writing import replacing, require_own, saved

FORMAT_1, FORMAT_2 = "audit-lit activations 1", "audit-lit activations 2"
"""Activations alone; those of one dialog with its controls, and the layers' convention written down."""
CONVENTION = "output of block L, counted from 0"
"""What a layer is, in words that a file of format 2 must repeat, and that no file may contradict."""


def write_file(path: str | Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a file as a whole, or not at all, and over nothing but activations.

    Raises:
        OutputError: If it cannot be written, or holds something else.
    """
    from safetensors.torch import save_file

    file = as_path(path, OutputError, "the file of activations")
    require_own(file, (FORMAT_1, FORMAT_2), OutputError)
    with saved(file, OutputError), replacing(file) as unfinished:
        # cloned, since safetensors refuses tensors that share memory
        copies = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
        save_file(copies, unfinished, metadata=metadata)


def read_file(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a file of either format.

    Raises:
        ActivationError: If it cannot be read, is of another kind or a newer format, or counts layers in another way.
    """
    from safetensors import SafetensorError, safe_open

    path = as_path(path, ActivationError, "the file of activations")
    if not os.path.lexists(path):
        raise ActivationError(
            f"there is no file {str(path)!r}; expected one that Reading.save, 'ask --save-activations' or 'convert' "
            "wrote. Check its name and the folder that you are in."
        )
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
    convention = metadata.get("convention", CONVENTION if form == FORMAT_1 else None)
    if convention != CONVENTION:
        raise ActivationError(
            f"{path} counts its layers as {convention!r}; expected {CONVENTION!r}, which is "
            "hidden_states[L + 1] of transformers. Number the layers so, and write the file again."
        )
    return tensors, metadata


def broken(path: str | Path, err: Exception) -> ActivationError:
    """Return the error to raise for a file that is none of activations, or an incomplete one."""
    return ActivationError(
        f"{path} is not a complete file of activations ({err}); expected one written by Activations.save or "
        "Reading.save. Write or fetch it again."
    )
