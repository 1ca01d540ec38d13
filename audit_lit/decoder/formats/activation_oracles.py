"""The formats of the activation oracles (arXiv 2512.15674), as their authors' code uses them."""

from __future__ import annotations

from audit_lit.decoder.config import DecoderConfig


def activation_oracle(
    name: str,
    *,
    target: str,
    d_model: int,
    n_layers: int,
    depths: tuple[int, ...] = (50,),
    section: str = "Layer: {layer}\n{slots}",
    separator: str = "\n",
    prompt: str = "{sections} \n{question}",
) -> DecoderConfig:
    """Return the first format: norm-matched addition to `` ?`` slots at block 1.

    Args:
        name: Name of the decoder.
        target: Name of the model whose activations it reads, which is also its base.
        d_model: Width of those activations.
        n_layers: Number of blocks of that model.
        depths: The read layers, in percent of the model's depth.
        section: See ``WireFormat``.
        separator: Text between sections.
        prompt: See ``WireFormat``.
    """
    return DecoderConfig(
        name=name,
        target=target,
        base=target,
        d_model=d_model,
        n_layers=n_layers,
        read_layers=tuple(int(n_layers * depth / 100) for depth in depths),
        prompt=prompt,
        section=section,
        section_separator=separator,
        placeholder=" ?",
        write="add",
        write_layer=1,
    )


def activation_oracle_multilayer(name: str, *, target: str, d_model: int, n_layers: int) -> DecoderConfig:
    """Return the format of several layers, at 25, 50 and 75% of depth, each under its own ``Layer:`` line."""
    return activation_oracle(name, target=target, d_model=d_model, n_layers=n_layers, depths=(25, 50, 75))


def activation_oracle_v3(name: str, *, target: str, d_model: int, n_layers: int) -> DecoderConfig:
    """Return the third version's format, with all layers on one line: ``L9: ? ? L18: ? ?``."""
    multilayer = activation_oracle_multilayer(name, target=target, d_model=d_model, n_layers=n_layers)
    return multilayer.changed(section="L{layer}:{slots}", section_separator=" ", prompt="{sections}\n{question}")
