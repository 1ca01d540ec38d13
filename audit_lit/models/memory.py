"""The memory that a model takes in each type, by its settings alone: no weights are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from audit_lit import hub
from audit_lit.errors import TargetError, first_line
from audit_lit.files.reading import read_json
from audit_lit.models import smollm2
from audit_lit.models.loading import read_config

GIB = 2**30
ONE_FILE = "model.safetensors"
INDEX = f"{ONE_FILE}.index.json"
"""Where a folder's weights are: in one file, or in those that this one names."""
ROOM = 1.2
"""Memory beside the weights, as a factor: what accelerate's guide on model sizes gives for inference."""
BYTES = {"float32": 4.0, "bfloat16": 2.0}
BITS_BYTES = {"8bit": 1.0, "4bit": 0.5 + 1 / 64 + 4 / 64 / 256}
"""Bytes per quantised weight. NF4 has a scale of 8 bits for 64 weights, and one of 32 bits for 256 scales (QLoRA)."""


@dataclass(frozen=True)
class ModelSize:
    """How many weights a model has.

    Attributes:
        total: Number of weights.
        linear: Number of those in linear layers other than the head, which quantisation makes smaller.
    """

    total: int
    linear: int

    def gib(self, kind: str) -> float:
        """Return the memory of the model with room to run, in GiB; what stays unquantised is in bfloat16."""
        if kind in BYTES:
            weights = self.total * BYTES[kind]
        else:
            weights = self.linear * BITS_BYTES[kind] + (self.total - self.linear) * BYTES["bfloat16"]
        return ROOM * weights / GIB


@dataclass(frozen=True)
class Way:
    """One way to load a target.

    Attributes:
        name: What it is, in words.
        options: What to type for it.
        needs: Its memory in GiB, with a decoder that shares the weights.
        free: The memory in GiB that there is for it here.
    """

    name: str
    options: str
    needs: float
    free: float

    @property
    def fits(self) -> bool:
        """Whether there is enough memory."""
        return self.needs <= self.free


def size_of(name: str, *, revision: str | None = None) -> ModelSize:
    """Return the size of a model, of which ``config.json`` alone is fetched.

    Raises:
        HubError: If it cannot be fetched.
        TargetError: If it is not that of a causal language model that transformers knows.
    """
    import torch
    from transformers import AutoModelForCausalLM

    is_default = name == smollm2.ALIAS
    folder = smollm2.ensure_default_target() if is_default else _settings_of(name, revision)
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(read_config(folder), trust_remote_code=False)
    except Exception as err:  # the libraries raise errors of any kind about a broken file
        reason = first_line(err)
        raise TargetError(
            f"the size of {name!r} cannot be told: {reason}. Expected config.json of a causal language model that this "
            "version of transformers knows; for a LoRA, name its base."
        ) from err
    model.tie_weights()
    head = model.get_output_embeddings()
    layers = [module for module in model.modules() if isinstance(module, nn.Linear) and module is not head]
    return ModelSize(
        sum(parameter.numel() for parameter in model.parameters()), sum(layer.weight.numel() for layer in layers)
    )


def missing_weights(name: str) -> str:
    """Return which weights a folder lacks that ``load_target`` would read, in words; nothing for a Hub id.

    Raises:
        HubError: If it is neither.
    """
    folder = None if name == smollm2.ALIAS else hub.local_folder(name, kind="model")
    if folder is None or (folder / ONE_FILE).is_file():
        return ""
    if not (folder / INDEX).is_file():
        return f"there is neither {ONE_FILE} nor {INDEX} in the folder: the weights are missing"
    index = read_json(folder / INDEX, TargetError)
    parts = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(parts, dict) or not all(isinstance(part, str) for part in parts.values()):
        return f"{INDEX} does not say which files hold the weights"
    missing = sorted(part for part in set(parts.values()) if not (folder / part).is_file())
    return f"{len(missing)} files of its weights are missing, such as {missing[0]}" if missing else ""


def _settings_of(name: str, revision: str | None) -> Path:
    return hub.resolve(name, revision=revision, kind="model", files=["config.json"])


def ways(size: ModelSize, free: Mapping[str, float]) -> list[Way]:
    """Return the ways to load a target and a decoder on its weights, the truest and fastest first.

    Args:
        size: Its size.
        free: Free memory in GiB of ``cpu`` and of each GPU, such as ``cuda:0``.
    """
    gpus = {device: gib for device, gib in free.items() if device != "cpu"}
    largest, n_gpus = max(gpus, key=gpus.__getitem__, default=""), len(gpus)

    def way(name: str, options: str, kind: str, room: float) -> Way:
        return Way(name, options, size.gib(kind), room)

    on_gpus = []
    for kind in BYTES if gpus else ():
        on_gpus.append(way(f"{kind} on {largest}", f"--device {largest} --dtype {kind}", kind, gpus[largest]))
        if n_gpus > 1:
            evenly = n_gpus * min(gpus.values())
            split = f"--n-devices {n_gpus} --dtype {kind}"
            on_gpus.append(way(f"{kind} over {n_gpus} GPUs", split, kind, evenly))
    on_cpu = [way(f"{kind} on the CPU", f"--dtype {kind}", kind, free["cpu"]) for kind in BYTES]
    in_few_bits = []
    for kind in BITS_BYTES if gpus else ():
        quantised = f"--quantization {kind} --quantized-decoder"
        in_few_bits.append(way(f"{kind} on {largest}", f"--device {largest} {quantised}", kind, gpus[largest]))
        if n_gpus > 1:
            split = f"--n-devices {n_gpus} {quantised}"
            in_few_bits.append(way(f"{kind} over {n_gpus} GPUs", split, kind, n_gpus * min(gpus.values())))
    return [*on_gpus, *on_cpu, *in_few_bits]


def free_memory() -> dict[str, float]:
    """Return the free memory of this machine in GiB, of ``cpu`` and of each GPU."""
    import psutil
    import torch

    gpus = {f"cuda:{index}": torch.cuda.mem_get_info(index)[0] for index in range(torch.cuda.device_count())}
    return {name: size / GIB for name, size in {"cpu": psutil.virtual_memory().available, **gpus}.items()}
