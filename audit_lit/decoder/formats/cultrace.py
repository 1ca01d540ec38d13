"""CulTrace: LatentQA's format with a decoder for each read layer, in subfolders ``read0``, ``read1`` and so on.

Source: the card of copenlu/CulTrace-latentqa-decoder-llama-3-8b-instruct. Its tokenizer adds a token for padding, which
is masked in every input, so the base's own tokenizer serves as well.
"""

from __future__ import annotations

import re

from audit_lit.decoder.config import DecoderConfig
from audit_lit.decoder.formats.latentqa import lit_llama3


def cultrace_llama3(name: str, *, target: str, subfolder: str | None = None) -> DecoderConfig | None:
    """Return the format of the decoder in a subfolder; None for a folder that is not named after a layer."""
    match = re.fullmatch(r"(?:.*/)?read(\d{1,3})/?", subfolder or "")
    return lit_llama3(name, target=target, read_layer=int(match[1])) if match else None
