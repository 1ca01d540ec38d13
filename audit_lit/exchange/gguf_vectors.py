"""GGUF control vectors, as repeng's ``export_gguf`` writes them and llama.cpp's ``--control-vector`` reads them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch

from audit_lit.errors import EditError
from audit_lit.exchange.vectors import Vectors, as_added, block_of, incomplete
from audit_lit.files.writing import replacing

MOST_VALUES = 2**22
"""Largest number of values in a header, of which a model's vocabulary has a million."""
MAGIC, ARCHITECTURE = b"GGUF", "controlvector"


def write(vectors: Vectors, path: Path) -> None:
    """Write ``direction.L`` in float32 for each block."""
    from gguf import GGUFWriter

    vectors.require_every_token("gguf")
    if 0 in vectors.added:
        raise EditError(
            "the edit changes block 0, and llama.cpp refuses a control vector with direction.0; expected blocks from 1 "
            "on. Make the edit for other layers, or export it to vllm-lens or steering-vectors."
        )
    with replacing(path) as unfinished:
        writer = GGUFWriter(unfinished, ARCHITECTURE)
        writer.add_string(f"{ARCHITECTURE}.model_hint", vectors.target or "unknown")
        writer.add_uint32(f"{ARCHITECTURE}.layer_count", len(vectors.added))
        for name, value in vectors.model.items():
            writer.add_string(name, value)
        for layer, vector in vectors.added.items():
            writer.add_tensor(f"direction.{layer}", vector.numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def read(path: Path) -> tuple[str, Vectors]:
    """Return the name of the format, and the vectors of a file."""
    try:
        reader = _bounded_reader()(path)
        if (kind := _text(reader, "general.architecture")) != ARCHITECTURE:
            raise ValueError(f"its architecture is {kind!r}, and not {ARCHITECTURE!r}")
        added = {block_of(tensor.name, "direction."): _vector(tensor) for tensor in reader.tensors}
        known = (_text(reader, f"audit_lit.{name}") for name in ("target", "fingerprint"))
        target, fingerprint = known
    except Exception as err:  # gguf raises errors of any kind about a broken file
        raise incomplete(path, err) from err
    return "gguf", Vectors(added, target=target, fingerprint=fingerprint)


@cache
def _bounded_reader() -> type[Any]:
    """Return the reader of files that hold what their lengths promise; gguf's own reads on past the end, for ever."""
    from gguf import GGUFReader

    class BoundedReader(GGUFReader):  # type: ignore[misc]  # gguf has no types
        n_read = 0

        def _get(self, offset: int, dtype: Any, count: Any = 1, *args: Any, **settings: Any) -> Any:
            values = super()._get(offset, dtype, count, *args, **settings)
            self.n_read += 1
            if len(values) < count or self.n_read > MOST_VALUES:
                raise ValueError(f"a length in it is beyond its end, or beyond {MOST_VALUES:,} values")
            return values

    return BoundedReader


def _text(reader: Any, name: str) -> str | None:
    field = reader.get_field(name)
    return None if field is None else str(bytes(field.parts[-1]), encoding="utf-8")


def _vector(tensor: Any) -> torch.Tensor:
    if tensor.tensor_type.name not in ("F32", "F16") or tensor.data.ndim != 1:
        raise ValueError(
            f"{tensor.name} is {tensor.tensor_type.name} of shape {list(tensor.shape)}; expected F32 [d_model]"
        )
    return as_added(tensor.name, torch.from_numpy(tensor.data.copy()))
