"""Oracle lenses (OLens): a LoRA that lists the concepts in one activation, in the place of a marker's embedding.

Source: the cards of agu18dec/oracle-lens-ddp600, agu18dec/olens_and_ar and andyx10/oracle-lens-qwen3-4b.
"""

from __future__ import annotations

from typing import Any

from audit_lit.decoder.config import DecoderConfig

PROMPT = (
    "An activation vector from layer {layer} of a language model is enclosed in activation tags: "
    "<activation>{slots}</activation>. Produce distinct concepts that encode this activation, each as a '- ' bullet on "
    "its own line."
)


def oracle_lens(
    name: str,
    *,
    target: str,
    d_model: int,
    n_layers: int,
    layers: tuple[int, ...],
    marker: str,
    gain: float = 16000.0,
    section: str = PROMPT,
    **settings: Any,
) -> DecoderConfig:
    """Return an oracle lens's format: the marker's embedding becomes the activation, rescaled to the norm ``gain``.

    Args:
        name: Name of the decoder.
        target: Name of the model whose activations it reads, which is also its base.
        d_model: Width of those activations.
        n_layers: Number of blocks of that model.
        layers: The layers that it reads, one at a time; the first is read unless the caller chooses another.
        marker: The character whose embedding is replaced.
        gain: See ``WireFormat``.
        section: See ``WireFormat``.
        **settings: Further fields of the configuration, such as ``slot_tokens``, ``top_p`` or ``max_new_tokens``.
    """
    return DecoderConfig(
        name=name,
        target=target,
        base=target,
        d_model=d_model,
        n_layers=n_layers,
        read_layers=layers,
        layer_choice="one",
        positions="last",
        prompt="{sections}",
        takes_question=False,
        section=section,
        placeholder=marker,
        write="embed",
        write_layer=0,
        gain=gain,
        **settings,
    )
