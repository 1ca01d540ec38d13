"""The formats of published decoders, importable from here as well as from ``audit_lit.decoder.formats``."""

from audit_lit.decoder.formats import (
    PUBLISHED,
    activation_oracle,
    activation_oracle_multilayer,
    activation_oracle_v3,
    lit_llama3,
    oracle_lens,
)

__all__ = [
    "PUBLISHED",
    "activation_oracle",
    "activation_oracle_multilayer",
    "activation_oracle_v3",
    "lit_llama3",
    "oracle_lens",
]
