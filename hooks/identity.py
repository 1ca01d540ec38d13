"""Which model is it? A fingerprint that its copies share in any precision, and that other models do not."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from audit_lit.errors import TargetError

N_ROWS = 64
"""Number of token embeddings that the fingerprint is taken of."""
BITS_PER_ROW = 4
NEAR = 0.2
"""Largest share of differing bits in copies of a model: rounding to 4 bits flips a twentieth, another model half."""
KNOWN = {"921b46d99124acd3": "804bf11d1975b08f2d97ce9b9107fcd1978c58910480f263d50d07550c0b8e30"}
"""Sketches of models whose fingerprints were hashes alone when their decoder shipped: here, the default target."""


def fingerprint(model: Any) -> str:
    """Return a hash of the first token embeddings, rounded to bfloat16, and their sketch: ``hash-sketch``.

    The hash is the same for HookedTransformer and TransformerBridge, for float32 and bfloat16 copies, and for
    fine-tunes that leave the embeddings alone. The sketch (Charikar 2002: the sign of random projections) is nearly
    the same for copies in float16, 8 and 4 bits, too. A decoder or an edit made for the original fits all of these;
    compare by ``same_model``.

    Raises:
        TargetError: If it is no TransformerLens model.
    """
    if getattr(getattr(model, "embed", None), "W_E", None) is None:
        raise TargetError(f"got {model!r:.80}; expected a TransformerLens model, which has token embeddings.")
    return fingerprint_of(model.embed.W_E)


def fingerprint_of(embeddings: Float[Tensor, "token d_model"]) -> str:
    """Return the fingerprint of the model with these token embeddings, such as ``get_input_embeddings().weight``.

    Raises:
        TargetError: If they are no matrix of floating-point numbers.
    """
    if not isinstance(embeddings, Tensor) or embeddings.ndim != 2 or not embeddings.is_floating_point():
        raise TargetError(
            f"got {embeddings!r:.80} for token embeddings; expected a tensor of floating-point numbers, a row per "
            "token, such as model.get_input_embeddings().weight."
        )
    rows = embeddings[:N_ROWS].detach().to("cpu", torch.bfloat16).contiguous()
    return f"{hashlib.sha256(rows.view(torch.int16).numpy().tobytes()).hexdigest()[:16]}-{_sketch(rows.float())}"


def _sketch(rows: Float[Tensor, "token d_model"]) -> str:
    """Return a hexadecimal digit per row: the signs of four projections, in directions that no other row has."""
    shape = (len(rows), BITS_PER_ROW, rows.shape[1])
    stream = np.frombuffer(hashlib.shake_256(b"audit-lit").digest(-(-int(np.prod(shape)) // 8)), np.uint8)
    directions = 2.0 * np.unpackbits(stream)[: np.prod(shape)].reshape(shape) - 1
    bits = np.einsum("tbd,td->tb", directions, rows.double().numpy()) > 0
    return "".join(f"{int(value):x}" for value in bits @ (1 << np.arange(BITS_PER_ROW)))


def _sketch_in(fingerprint: str) -> str:
    digest, _, sketch = fingerprint.partition("-")
    return sketch or KNOWN.get(digest, "")


def same_model(stored: str, got: str) -> bool:
    """Return whether two fingerprints are of copies of one model; a stored one may be a hash alone.

    Raises:
        TargetError: If one of them is no text.
    """
    distance = _distance(stored, got)
    return stored.partition("-")[0] == got.partition("-")[0] or (distance is not None and distance <= NEAR)


def difference(stored: str, got: str) -> str:
    """Return in words how the models of two fingerprints differ, of which the first was stored.

    Raises:
        TargetError: If one of them is no text.
    """
    distance = _distance(stored, got)
    if distance is None:
        return (
            "other token embeddings, or the same in float16 or quantised, which a fingerprint without a sketch cannot "
            "tell"
        )
    return f"other token embeddings: {distance:.0%} of their sketch differs, and at most {NEAR:.0%} in a copy"


def _distance(stored: str, got: str) -> float | None:
    """Return the share of the bits of two sketches that differ; None if there are no two to compare."""
    for given in (stored, got):
        if not isinstance(given, str):
            raise TargetError(
                f"got {given!r:.80} for a fingerprint; expected text, as hooks.fingerprint(model) or "
                "Target.fingerprint() returns it."
            )
    first, second = map(_sketch_in, (stored, got))
    if not first or len(first) != len(second):
        return None
    try:
        return (int(first, 16) ^ int(second, 16)).bit_count() / (BITS_PER_ROW * len(first))
    except ValueError:  # a stored fingerprint may be any text
        return None
