"""The activation oracles' formats (arXiv 2512.15674), as their code uses them."""

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
    """Norm-matched addition to `` ?`` slots at block 1; layers are given in percent of depth."""
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
    """Several layers at 25, 50 and 75% of depth, each under its own ``Layer:`` line."""
    return activation_oracle(name, target=target, d_model=d_model, n_layers=n_layers, depths=(25, 50, 75))


def activation_oracle_v3(name: str, *, target: str, d_model: int, n_layers: int) -> DecoderConfig:
    """The third version: ``L9: ? ? L18: ? ?`` on one line."""
    return activation_oracle(
        name,
        target=target,
        d_model=d_model,
        n_layers=n_layers,
        depths=(25, 50, 75),
        section="L{layer}:{slots}",
        separator=" ",
        prompt="{sections}\n{question}",
    )
