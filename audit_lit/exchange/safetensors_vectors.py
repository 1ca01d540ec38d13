"""Steering vectors of vllm-lens and of steering-vectors, as safetensors: the tools themselves only pickle them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from audit_lit.exchange.vectors import Vectors, as_added, block_of, incomplete
from audit_lit.files.documents import decode_json
from audit_lit.files.writing import replacing
from audit_lit.settings import explain

VLLM_LENS, STEERING_VECTORS = "vllm-lens steering vector", "steering-vectors steering vector"
BLOCK = "decoder_block"
"""The type of layer whose output is the residual stream."""


class Arguments(BaseModel):
    """The arguments of vllm-lens' ``SteeringVector`` beside ``activations``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    layer_indices: list[int]
    scale: float = 1.0
    norm_match: bool = False
    position_indices: list[int] | None = None


def write_vllm_lens(vectors: Vectors, path: Path) -> None:
    """Write the tensor ``activations``, and the other arguments of ``SteeringVector`` as JSON in the metadata."""
    positions = None if vectors.positions is None else list(vectors.positions)
    arguments = Arguments(layer_indices=list(vectors.added), position_indices=positions)
    metadata = {"format": VLLM_LENS, "steering_vector": arguments.model_dump_json(), **vectors.model}
    if vectors.n_prompt is not None:
        metadata["audit_lit.n_prompt"] = json.dumps(vectors.n_prompt)
    _write({"activations": torch.stack(list(vectors.added.values()))}, metadata, path)


def write_steering_vectors(vectors: Vectors, path: Path) -> None:
    """Write a tensor for each block, named by its number: the ``layer_activations`` of ``SteeringVector``."""
    vectors.require_every_token("steering-vectors")
    tensors = {str(layer): vector for layer, vector in vectors.added.items()}
    _write(tensors, {"format": STEERING_VECTORS, "layer_type": BLOCK, **vectors.model}, path)


def _write(tensors: dict[str, Tensor], metadata: dict[str, str], path: Path) -> None:
    from safetensors.torch import save_file

    with replacing(path) as unfinished:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, unfinished, metadata=metadata)


def read(path: Path) -> tuple[str, Vectors]:
    """Return the name of the format, and the vectors of a file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        form = metadata.get("format")
        if form == VLLM_LENS:
            return "vllm-lens", _of_vllm_lens(tensors, metadata)
        if form == STEERING_VECTORS:
            return "steering-vectors", _of_steering_vectors(tensors, metadata)
        raise ValueError(f"its format is {form!r}; expected {VLLM_LENS!r} or {STEERING_VECTORS!r}")
    except ValidationError as err:
        raise incomplete(path, explain(err, Arguments)) from err
    except (OSError, SafetensorError, KeyError, ValueError) as err:
        raise incomplete(path, err) from err


def _of_vllm_lens(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Vectors:
    arguments = Arguments.model_validate(decode_json(metadata["steering_vector"]))
    if set(tensors) != {"activations"}:
        raise ValueError(f"it holds the tensors {sorted(tensors)}; expected 'activations' alone")
    if arguments.norm_match:
        raise ValueError("norm_match is true: the vector's length follows the residuals, which no edit does")
    activations, layers = tensors["activations"], arguments.layer_indices
    if activations.ndim not in (2, 3) or len(activations) != len(layers) or len(set(layers)) < len(layers):
        raise ValueError(f"activations has shape {list(activations.shape)} for the layers {layers}")
    added = {
        layer: as_added(f"layer {layer}", vector, arguments.scale)
        for layer, vector in zip(layers, activations, strict=True)
    }
    target, fingerprint = (metadata.get(f"audit_lit.{name}") for name in ("target", "fingerprint"))
    if activations.ndim == 2:
        if arguments.position_indices is not None:
            raise ValueError("position_indices stand beside one vector for each layer; expected one for each position")
        return Vectors(added, target=target, fingerprint=fingerprint)
    positions = arguments.position_indices or list(range(activations.shape[1]))
    if len(positions) != activations.shape[1]:
        raise ValueError(f"there are {len(positions)} positions and {activations.shape[1]} vectors for each layer")
    if "audit_lit.n_prompt" not in metadata:
        raise ValueError("it is for positions, without audit_lit.n_prompt, the length in tokens of their prompt")
    return Vectors(added, tuple(positions), int(metadata["audit_lit.n_prompt"]), target, fingerprint)


def _of_steering_vectors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Vectors:
    if metadata["layer_type"] != BLOCK:
        raise ValueError(f"its layer_type is {metadata['layer_type']!r}; an edit changes the output of a {BLOCK!r}")
    if any(tensor.ndim != 1 for tensor in tensors.values()):
        raise ValueError("a tensor of it is no single vector")
    added = {block_of(name): as_added(name, tensors[name]) for name in sorted(tensors, key=block_of)}
    return Vectors(added, target=metadata.get("audit_lit.target"), fingerprint=metadata.get("audit_lit.fingerprint"))
