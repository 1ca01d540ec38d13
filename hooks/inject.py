"""Write vectors into chosen positions of a residual stream.

Four write operations, on the residual ``h`` of a slot and the vector ``v`` that it receives:

- ``Replace`` (LatentQA, arXiv 2412.08686):            ``h <- v``
- ``AddNormMatched`` (activation oracles, 2512.15674): ``h <- h + gain |h| v / |v|``
- ``Embed`` (natural language autoencoders):           ``h <- gain v / |v|``, in the place of a token's embedding
- ``Project`` (ours): ``a = W (v - mean) / std``, then ``h <- |h| a / |a|``. A few massive dimensions dominate raw
  residuals; without the standardisation, all slots look alike to the decoder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from audit_lit.errors import ActivationError

WriteOp = Callable[
    [Float[Tensor, "slot d_model"], Float[Tensor, "slot d_read"], Int[Tensor, " slot"]],
    Float[Tensor, "slot d_model"],
]
"""Takes the residuals of the slots, their vectors, and the index of the read layer that each vector came from."""

EPS = 1e-6


def _norm(vector: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch 1"]:
    norm: Tensor = vector.norm(dim=-1, keepdim=True)
    return norm


def _unit(vector: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
    return vector / _norm(vector).clamp_min(EPS)


class Replace(nn.Module):
    """Replaces the residual of the slot by the vector."""

    rescales = False
    """Whether the length of a vector makes no difference."""

    def forward(self, resid: Tensor, vectors: Tensor, layer_index: Tensor) -> Tensor:
        """Return the new residuals of the slots, in float32."""
        return vectors.float()


class AddNormMatched(nn.Module):
    """Adds the vector, rescaled to ``gain`` times the norm of the slot's residual."""

    rescales = True

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, resid: Tensor, vectors: Tensor, layer_index: Tensor) -> Tensor:
        """Return the new residuals of the slots, in float32."""
        resid = resid.float()
        return resid + self.gain * _norm(resid) * _unit(vectors.float())


class Embed(nn.Module):
    """Replaces the embedding of the slot by the vector, rescaled to the norm ``gain``.

    It belongs at the input of block 0: ``input_hook(blocks[0], fn)``, or ``blocks.0.hook_resid_pre``.
    """

    rescales = True

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, resid: Tensor, vectors: Tensor, layer_index: Tensor) -> Tensor:
        """Return the new embeddings of the slots, in float32."""
        return self.gain * _unit(vectors.float())


class Project(nn.Module):
    """Standardises the vector, maps it linearly, and rescales it to the norm of the slot's residual.

    ``mean`` and ``std`` are taken per dimension over training activations, with one row per read layer. The map starts
    as the identity and is trained with the decoder.
    """

    rescales = True

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Float[Tensor, "layer d_read"], std: Float[Tensor, "layer d_read"], d_model: int) -> None:
        """Start as the identity, with the statistics of the target's activations.

        Raises:
            ActivationError: If a standard deviation is not positive, or the shapes differ.
        """
        super().__init__()
        are_tables = all(isinstance(table, Tensor) and table.ndim == 2 for table in (mean, std))
        if not are_tables or mean.shape != std.shape or type(d_model) is not int or d_model < 1:
            raise ActivationError(
                f"got mean={mean!r:.80}, std={std!r:.80} and d_model={d_model!r:.80}; expected two tensors of shape "
                "[layer, d_read], and a width."
            )
        if not bool((std > 0).all()):
            raise ActivationError(
                "std has a value that is not positive; expected the standard deviations of real activations."
            )
        self.register_buffer("mean", mean.detach().float().clone())
        self.register_buffer("std", std.detach().float().clone())
        self.weight = nn.Parameter(torch.eye(d_model, mean.shape[1]).repeat(mean.shape[0], 1, 1))

    def for_layer(self, index: int) -> Project:
        """Return the operation for one of the read layers, counted from 0, with a copy of its parameters."""
        row = slice(index, index + 1)
        single = Project(self.mean[row], self.std[row], self.weight.shape[1])
        single.weight.data = self.weight.detach()[row].clone()
        return single

    def forward(self, resid: Tensor, vectors: Tensor, layer_index: Tensor) -> Tensor:
        """Return the new residuals of the slots, in float32."""
        scaled = (vectors.float() - self.mean[layer_index]) / self.std[layer_index]
        mapped = torch.zeros(*scaled.shape[:-1], self.weight.shape[1], device=scaled.device)
        for layer in range(self.weight.shape[0]):
            rows = layer_index == layer
            mapped = mapped.index_put((rows,), (scaled[rows] @ self.weight[layer].T).float())
        return _norm(resid.float()) * _unit(mapped)


def inject(
    write: WriteOp,
    vectors: Float[Tensor, "slot d_read"],
    slots: Bool[Tensor, "batch pos"],
    layer_index: Int[Tensor, " slot"] | None = None,
) -> Callable[..., Tensor]:
    """Return a hook function that writes ``vectors`` where ``slots`` is true, row by row.

    It fits ``model.hooks(fwd_hooks=[(resid_post(layer), fn)])`` on any TransformerLens model and
    ``output_hook(block, fn)`` on a plain Hugging Face one. The function returns a fresh tensor, keeps dtype and device,
    and passes gradients to ``vectors``. A sequence shorter than ``slots`` is a decoding step under a KV cache: its
    slots were written in the prefill, so it is returned unchanged. A longer sequence was recomputed without a cache, so
    its slots are written again.

    Args:
        write: One of the operations above.
        vectors: The vectors to write, one per slot.
        slots: True at the prompt positions that receive a vector.
        layer_index: The read layer that each vector came from, counted from 0; None means a single layer.

    Raises:
        ActivationError: If the number of vectors is not the number of slots.
    """
    if not isinstance(vectors, Tensor) or vectors.ndim != 2 or not isinstance(slots, Tensor) or slots.ndim != 2:
        raise ActivationError(
            f"got vectors={vectors!r:.80} and slots={slots!r:.80}; expected tensors of shape [slot, width] and "
            "[batch, position]."
        )
    if vectors.shape[0] != int(slots.sum()):
        raise ActivationError(
            f"got {vectors.shape[0]} vectors for {int(slots.sum())} slots; expected one vector per slot."
        )
    index = layer_index if layer_index is not None else torch.zeros(len(vectors), dtype=torch.long)

    def fn(resid: Tensor, *, hook: object = None) -> Tensor:
        n_new = resid.shape[1] - slots.shape[1]
        if n_new < 0:
            return resid
        mask = nn.functional.pad(slots, (0, n_new)).to(resid.device)
        written = write(resid[mask], vectors.to(resid.device), index.to(resid.device))
        return resid.masked_scatter(mask.unsqueeze(-1), written.to(resid.dtype))

    return fn


@contextmanager
def output_hook(block: nn.Module, fn: Callable[..., Tensor]) -> Iterator[None]:
    """Apply a hook function to the output of a plain Hugging Face block inside the ``with`` body."""

    def forward_hook(_module: nn.Module, _args: object, output: Tensor | tuple[Tensor, ...]) -> object:
        return (fn(output[0]), *output[1:]) if isinstance(output, tuple) else fn(output)

    handle = block.register_forward_hook(forward_hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def input_hook(block: nn.Module, fn: Callable[..., Tensor]) -> Iterator[None]:
    """Apply a hook function to the input of a plain Hugging Face block inside the ``with`` body."""

    def forward_hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if args:
            return (fn(args[0]), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": fn(kwargs["hidden_states"])}

    handle = block.register_forward_pre_hook(forward_hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
