"""The formats of the activation oracles (arXiv 2512.15674), as their authors' code uses them.

All write to `` ?`` slots of one user message by norm-matched addition at block 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from audit_lit.decoder.config import DecoderConfig

QUARTERS = (25, 50, 75)


def activation_oracle(
    name: str,
    *,
    target: str,
    d_model: int,
    n_layers: int,
    depths: Sequence[int] = (50,),
    layers: Sequence[int] | None = None,
    layer_choice: Literal["all", "one"] = "all",
) -> DecoderConfig:
    r"""Return the first format: ``Layer: 18\n ? ? \n`` for each layer, with nothing in between.

    Args:
        name: Name of the decoder.
        target: Name of the model whose activations it reads, which is also its base.
        d_model: Width of those activations.
        n_layers: Number of blocks of that model.
        depths: The read layers, in percent of the model's depth.
        layers: The read layers themselves, counted from 0, instead of ``depths``.
        layer_choice: Whether a prompt has ``all`` layers or ``one`` of them: the paper's oracles were trained at 25, 50
            and 75% of depth, one at a time.
    """
    at_depths = [int(n_layers * depth / 100) for depth in depths]
    return DecoderConfig(
        name=name,
        target=target,
        base=target,
        d_model=d_model,
        n_layers=n_layers,
        read_layers=tuple(at_depths if layers is None else layers),
        layer_choice=layer_choice,
        prompt="{sections}{question}",
        section="Layer: {layer}\n{slots} \n",  # without the space, " ?" and the newline would be one token
        section_separator="",
        placeholder=" ?",
        write="add",
        write_layer=1,
        enable_thinking=False,
        reads_bos=True,
    )


def activation_oracle_multilayer(
    name: str,
    *,
    target: str,
    d_model: int,
    n_layers: int,
    depths: Sequence[int] = QUARTERS,
    layers: Sequence[int] | None = None,
) -> DecoderConfig:
    """Return the format of several layers at once, each in a section of its own; ao-v3-best has layers 21 to 25."""
    return activation_oracle(name, target=target, d_model=d_model, n_layers=n_layers, depths=depths, layers=layers)


def activation_oracle_v3(
    name: str,
    *,
    target: str,
    d_model: int,
    n_layers: int,
    depths: Sequence[int] = QUARTERS,
    layers: Sequence[int] | None = None,
) -> DecoderConfig:
    """Return the format with all layers on one line: ``L9: ? ? L18: ? ?``."""
    sections = activation_oracle_multilayer(
        name, target=target, d_model=d_model, n_layers=n_layers, depths=depths, layers=layers
    )
    line = {"section": "L{layer}:{slots}", "section_separator": " ", "prompt": "{sections}\n{question}"}
    return sections.changed(**line, split_at_slots=True)
