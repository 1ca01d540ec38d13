"""LatentQA's format (arXiv 2412.08686), as its authors' code uses it on Llama-3."""

from __future__ import annotations

from audit_lit.decoder.config import DecoderConfig

LLAMA3_USER = "<|start_header_id|>user<|end_header_id|>\n\n"
LLAMA3_REFLECT = "<|start_header_id|>reflect<|end_header_id|>\n\n"


def lit_llama3(
    name: str, *, target: str, d_model: int = 4096, n_layers: int = 32, read_layer: int = 15
) -> DecoderConfig:
    """Return LatentQA's format on Llama-3: raw activations replace one ``?`` per token at block 0."""
    prompt = (
        f"<|begin_of_text|>{LLAMA3_USER}{{sections}}<|eot_id|>"
        f"{LLAMA3_REFLECT}Sure, I've analyzed the assistant.<|eot_id|>"
        f"{LLAMA3_USER}{{question}}<|eot_id|>{LLAMA3_REFLECT}"
    )
    return DecoderConfig(
        name=name,
        target=target,
        base=target,
        d_model=d_model,
        n_layers=n_layers,
        read_layers=(read_layer,),
        prompt=prompt,
        section="{slots}",
        placeholder="?",
        placeholder_separator=" ",
        chat=False,
        write="replace",
        write_layer=0,
        shift_positions=True,
        first_position=1,
        answer_end="<|eot_id|>",
    )
