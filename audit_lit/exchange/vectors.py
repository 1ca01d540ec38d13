"""What a steering vector is in every tool: a vector to add after each of some blocks."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from audit_lit.errors import EditError


@dataclass(frozen=True)
class Vectors:
    """Vectors to add to the outputs of blocks, and the model that they are for.

    Attributes:
        added: For each block, counted from 0, the vector to add: ``[d_model]``, or ``[position, d_model]``.
        positions: The token positions that they are added at; None for every token.
        n_prompt: The length of the prompt that the positions count in; None if there are none.
        target: Name of the model; None if it is unknown.
        fingerprint: Its fingerprint; None if it is unknown.
    """

    added: dict[int, Tensor]
    positions: tuple[int, ...] | None = None
    n_prompt: int | None = None
    target: str | None = None
    fingerprint: str | None = None

    @property
    def model(self) -> dict[str, str]:
        """What is known of the model, as metadata of a file."""
        known = {"audit_lit.target": self.target, "audit_lit.fingerprint": self.fingerprint}
        return {name: value for name, value in known.items() if value is not None}

    def require_every_token(self, form: str) -> None:
        """Raise ``EditError`` if they are for some positions, which a format cannot say."""
        if self.positions is not None:
            raise EditError(
                f"the edit is for positions of one prompt, and the format {form} adds to every token; expected an edit "
                "of method 'vector'. Export it to vllm-lens."
            )


def block_of(name: str, prefix: str = "") -> int:
    """Return the block that a tensor's name counts, in the only way to write it, so that no two name the same.

    Raises:
        ValueError: If the name is another.
    """
    if match := re.fullmatch(rf"{re.escape(prefix)}(0|[1-9]\d{{,5}})", name, re.ASCII):
        return int(match[1])
    raise ValueError(f"it holds the tensor {name!r}; expected {prefix}L alone, where L is a block, without zeros ahead")


def as_added(name: str, tensor: Tensor, scale: float = 1.0) -> Tensor:
    """Return a tensor as a vector to add, ``[d_model]`` or ``[position, d_model]``, in float32.

    Raises:
        ValueError: If it is not of real floating-point numbers, is zero, or its length is not finite in float32.
    """
    if not tensor.is_floating_point():
        raise ValueError(f"the vector {name!r} is of type {tensor.dtype}; expected real floating-point numbers")
    vector = scale * tensor.float()
    if not 0 < (length := float(vector.norm())) < math.inf:
        raise ValueError(f"the vector {name!r} has the length {length}; expected a finite one above 0")
    return vector


def incomplete(path: Path, err: object) -> EditError:
    """Return the error to raise for a file that is no steering vector, or a broken one."""
    return EditError(
        f"{path} is not a complete steering vector ({err}); expected a GGUF control vector, or safetensors of "
        "vllm-lens or steering-vectors as docs/edits.md describes them. Write or fetch it again."
    )
