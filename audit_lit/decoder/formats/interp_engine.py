"""``run.json``: the reads of interp-engine, LoRAs that list the concepts in one activation.

Source: the LoRA reads of github.com/decoderesearch/interp-engine. Which character is the marker is not written down:
it is the first of U+3200 to U+33FF that is one token in the prompt of every layer.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from audit_lit.chat.vocabulary import DESCRIPTION_QUESTION
from audit_lit.decoder.config import DecoderConfig
from audit_lit.decoder.formats.oracle_lens import PROMPT, oracle_lens
from audit_lit.decoder.formats.sidecar import Sidecar, base_name, checked, model_sizes
from audit_lit.decoder.prompt import build_prompt
from audit_lit.decoder.wire_format import Factor, Index
from audit_lit.errors import DecoderConfigError
from audit_lit.files.reading import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FILE = "run.json"
ANY_MARKER = "\u3200-\u33ff"
"""Stands for a marker that the tokenizer decides."""
MAX_NEW_TOKENS = 128
PROMPTS = {
    "concepts_raw": PROMPT.replace("tags: ", "tags:\n").replace("each as a", "each as\na"),
    "concepts_raw_inline": PROMPT,
}


class Extra(Sidecar):
    """The name of the prompt."""

    prompt: Literal["concepts_raw", "concepts_raw_inline"] = "concepts_raw"


class Read(Sidecar):
    """How an activation is read: rescaled to the norm ``alpha``, from one of the layers."""

    alpha: Factor
    layers: tuple[Index, ...]
    transform: Literal["unit"] = "unit"
    extra: Extra = Extra()


class Run(Sidecar):
    """The part of the file that says so."""

    config: Read


def read(path: Path, folder: Path, name: str) -> DecoderConfig:
    """Return the configuration that ``run.json`` describes, with a marker that is still to be chosen.

    Raises:
        DecoderConfigError: If a field is missing or unknown.
    """
    fields = checked(Run, read_json(path, DecoderConfigError), path).config
    d_model, n_layers = model_sizes(folder)
    return oracle_lens(
        name,
        target=base_name(folder) or name,
        d_model=d_model,
        n_layers=n_layers,
        layers=fields.layers,
        marker=ANY_MARKER,
        gain=fields.alpha,
        section=PROMPTS[fields.extra.prompt],
        max_new_tokens=MAX_NEW_TOKENS,
    )


def with_marker(config: DecoderConfig, tokenizer: PreTrainedTokenizerBase) -> DecoderConfig:
    """Return a configuration whose marker is chosen for a tokenizer; itself if it names one.

    Raises:
        DecoderConfigError: If no character is one token in every prompt.
    """
    if config.placeholder != ANY_MARKER:
        return config
    for code in range(0x3200, 0x3400):
        chosen = config.changed(placeholder=chr(code))
        if _is_one_token(chosen, tokenizer):
            return chosen
    raise DecoderConfigError(
        f"no character of U+3200 to U+33FF is one token in the prompts of decoder {config.name!r}; expected the "
        "tokenizer of the base that it was trained on. Load that base."
    )


def _is_one_token(config: DecoderConfig, tokenizer: PreTrainedTokenizerBase) -> bool:
    if len(tokenizer(config.placeholder, add_special_tokens=False)["input_ids"]) != 1:
        return False
    try:
        for layer in config.read_layers:
            build_prompt(config, tokenizer, DESCRIPTION_QUESTION, 1, layers=[layer])
    except DecoderConfigError:
        return False
    return True
