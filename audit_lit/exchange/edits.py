"""Edits as steering vectors of other tools: one added direction for each layer, and nothing else.

The layers of all three formats are blocks counted from 0, and the vector is added to the block's output:

- ``vllm-lens``: ``layer_indices`` (``_apply_steering`` in its ``_worker_ext.py`` changes the output of the layer).
- ``steering-vectors``: ``layer_activations`` with ``layer_type="decoder_block"`` (a forward hook on the block).
- ``gguf``: tensors ``direction.L``, which repeng (``ControlModule``) and llama.cpp (``build_cvec``, after the block's
  last residual addition) add to the output of block L. llama.cpp refuses ``direction.0``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from audit_lit.errors import EditError
from audit_lit.exchange import gguf_vectors, safetensors_vectors
from audit_lit.exchange.vectors import Vectors
from audit_lit.files.reading import require_regular
from audit_lit.hooks import ActivationEdit, Origin, Steer, difference, same_model
from audit_lit.models.target import Target

WRITERS: dict[str, Callable[[Vectors, Path], None]] = {
    "vllm-lens": safetensors_vectors.write_vllm_lens,
    "steering-vectors": safetensors_vectors.write_steering_vectors,
    "gguf": gguf_vectors.write,
}
FORMATS = tuple(WRITERS)


def export_edit(edit: ActivationEdit, form: str, path: str | Path) -> None:
    """Write an edit as a steering vector of another tool (docs/edits.md describes the files).

    Args:
        edit: An edit of added directions: method ``vector``, a sum of such edits, one that is scaled or negated; for
            ``vllm-lens`` also ``gradient``.
        form: ``vllm-lens``, ``steering-vectors`` or ``gguf``, which repeng and llama.cpp read.
        path: The file to write.

    Raises:
        EditError: If the edit is none of these, the format does not have what it needs, or the file cannot be written.
    """
    if form not in WRITERS:
        raise EditError(f"got the format {form!r}; expected one of {', '.join(FORMATS)}.")
    from safetensors import SafetensorError

    vectors = _vectors_of(edit)
    try:
        WRITERS[form](vectors, Path(path))
    except (OSError, SafetensorError) as err:
        raise EditError(f"the edit could not be written to {path} ({err}); name another file.") from err


def _vectors_of(edit: ActivationEdit) -> Vectors:
    """Return what an edit adds, summed for each layer."""
    steers = [change for change in edit.interventions if isinstance(change, Steer)]
    if others := {type(change).__name__ for change in edit.interventions if not isinstance(change, Steer)}:
        raise EditError(
            f"the edit holds {' and '.join(sorted(others))} changes, which depend on the residuals; a steering vector "
            "only adds. Expected an edit of method 'vector' (or 'gradient'), not of 'lowrank' or an ablated one."
        )
    places = {(steer.positions, steer.n_prompt) for steer in steers}
    if len(places) > 1:
        raise EditError("the edit changes some layers at other positions than others; a steering vector has one list.")
    ((positions, n_prompt),) = places
    added: dict[int, torch.Tensor] = {}
    for steer in steers:
        vector = steer.strength * steer.unit * steer.direction.detach().cpu().float()
        vector = vector if positions is None else vector.expand(len(positions), -1)
        added[steer.layer] = added.get(steer.layer, torch.zeros_like(vector)) + vector
    origin = edit.origin
    return Vectors(dict(sorted(added.items())), positions, n_prompt, origin.target, origin.fingerprint)


def import_edit(path: str | Path, target: Target) -> ActivationEdit:
    """Read a steering vector of any of these formats as an edit of a target.

    Raises:
        EditError: If the file is of another kind, incomplete or of another model, or does more than add directions.
    """
    where = Path(path)
    try:
        require_regular(where)
        with where.open("rb") as file:
            is_gguf = file.read(len(gguf_vectors.MAGIC)) == gguf_vectors.MAGIC
    except OSError as err:
        raise EditError(f"{path} could not be read ({err}); expected a file of a steering vector.") from err
    form, vectors = gguf_vectors.read(where) if is_gguf else safetensors_vectors.read(where)
    got = target.fingerprint()
    if vectors.fingerprint is not None and not same_model(vectors.fingerprint, got):
        raise EditError(
            f"{path} was made for {vectors.target!r} and {target.name!r} is another model, with "
            f"{difference(vectors.fingerprint, got)}; load that one."
        )
    steers = [
        Steer(layer=layer, direction=vector, positions=vectors.positions, n_prompt=vectors.n_prompt)
        for layer, vector in vectors.added.items()
    ]
    settings = {"layers": list(vectors.added)}
    origin = Origin(
        target.name, target.d_model, target.n_layers, got, method=f"imported from {form}", settings=settings
    )
    return ActivationEdit(tuple(steers), origin)
