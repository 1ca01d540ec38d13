"""Files that hold what a tool kept of one prompt: written by the tool itself, or by a line of its user's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from audit_lit.errors import ActivationError
from audit_lit.exchange.nnsight import from_nnsight
from audit_lit.exchange.runs import Run
from audit_lit.exchange.vllm_connector import from_vllm_connector
from audit_lit.exchange.vllm_lens import from_vllm_lens
from audit_lit.files.reading import require_regular

FORMATS = ("vllm", "vllm-lens", "nnsight")
NAMED = "nnsight"
"""The format that names its layers itself."""


def run_of_file(path: Path, form: str, layers: Sequence[int] = ()) -> Run:
    """Return the run that a safetensors file holds.

    Args:
        path: The file. vLLM's connector writes it; of vllm-lens, it is ``output.activations``; of nnsight, a tensor for
            each block, under its number.
        form: One of ``FORMATS``.
        layers: The list of layers that the tool was given, in its own numbers; of nnsight none, since they are named.

    Raises:
        ActivationError: If the file is of another kind, or not of these layers.
    """
    if form not in FORMATS or bool(layers) == (form == NAMED):
        raise ActivationError(
            f"got the format {form!r} with the layers {list(layers)}; expected one of {', '.join(FORMATS)}, with the "
            f"list of layers that the tool was given, which {NAMED} alone has in its file."
        )
    if form == "vllm":
        return from_vllm_connector(path, layers)
    tensors = _tensors(path)
    if form == "vllm-lens":
        return from_vllm_lens(tensors, layers)
    if named := [name for name in tensors if not name.isdecimal()]:
        raise ActivationError(
            f"{path} holds a tensor {named[0]!r}; expected the output of each block under its number, such as '15'. "
            "Save it by safetensors.torch.save_file({'15': saved}, path)."
        )
    return from_nnsight({int(name): tensor for name, tensor in tensors.items()})


def _tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        require_regular(path)
        return load_file(path)
    except (OSError, SafetensorError) as err:
        raise ActivationError(
            f"{path} is not a file of safetensors ({err}); expected what safetensors.torch.save_file wrote of a run. "
            "Write it again."
        ) from err
