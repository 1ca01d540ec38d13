"""Formats of published decoders that come without ``protocol.json``: one module per family.

An adapter that is not among them and brings no such file is refused: its format is never guessed. If you know the
format, pass the result of one of these functions as ``Decoder.from_pretrained(..., config=...)``.
"""

from audit_lit.decoder.config import DecoderConfig
from audit_lit.decoder.formats.activation_oracles import (
    activation_oracle,
    activation_oracle_multilayer,
    activation_oracle_v3,
)
from audit_lit.decoder.formats.latentqa import lit_llama3

__all__ = ["PUBLISHED", "activation_oracle", "activation_oracle_multilayer", "activation_oracle_v3", "lit_llama3"]

_LATENTQA = "aypan17/latentqa_llama-3-8b-instruct"
_ORACLE = "adamkarvonen/checkpoints_latentqa_cls_past_lens_addition_Qwen3-8B"

PUBLISHED: dict[str, DecoderConfig] = {
    _LATENTQA: lit_llama3(_LATENTQA, target="meta-llama/Meta-Llama-3-8B-Instruct"),
    _ORACLE: activation_oracle(_ORACLE, target="Qwen/Qwen3-8B", d_model=4096, n_layers=36),
}
"""The configuration of each published decoder, by its Hub id."""
