"""Formats of published decoders: one module per family, for those with a description of their own and those without.

A decoder that brings neither ``protocol.json`` nor another known description, and is not among the published ones, is
refused: its format is never guessed. If you know the format, pass the result of one of these functions, or a file, as
``Decoder.from_pretrained(..., config=...)``.
"""

from pathlib import Path

from audit_lit.chat.vocabulary import DESCRIPTION_QUESTION
from audit_lit.decoder.config import CONFIG_FILE, DecoderConfig
from audit_lit.decoder.formats import ao_config, interp_engine, nla
from audit_lit.decoder.formats.activation_oracles import (
    activation_oracle,
    activation_oracle_multilayer,
    activation_oracle_v3,
)
from audit_lit.decoder.formats.latentqa import lit_llama3
from audit_lit.decoder.formats.oracle_lens import oracle_lens
from audit_lit.decoder.formats.published import PUBLISHED

__all__ = [
    "DESCRIPTION_QUESTION",
    "PUBLISHED",
    "activation_oracle",
    "activation_oracle_multilayer",
    "activation_oracle_v3",
    "lit_llama3",
    "oracle_lens",
]

READERS = {module.FILE: module.read for module in (ao_config, interp_engine, nla)}
"""What reads each description of a decoder beside ``protocol.json``, by the file's name."""
DESCRIPTIONS = (CONFIG_FILE, *READERS)
"""Names of the files that say how activations enter a decoder; the first that is there counts."""


def read_description(path: Path, folder: Path, name: str) -> DecoderConfig | None:
    """Return the configuration that a file describes, told by its name; any other name is like ``protocol.json``.

    Args:
        path: The file.
        folder: The folder of the decoder's weights, which tell its sizes.
        name: Name of the decoder.

    Returns:
        The configuration; None if the file leaves open how activations are written.

    Raises:
        DecoderConfigError: If this version cannot follow the file.
    """
    reader = READERS.get(path.name)
    return reader(path, folder, name) if reader else DecoderConfig.read(path)
