"""``run.json``: the reads of interp-engine, LoRAs that list the concepts in one activation.

Source: the LoRA reads of github.com/decoderesearch/interp-engine. Which character is the marker is not written down:
it is the first of U+3200 to U+33FF that is one token in the prompt of every layer.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import StrictInt

from audit_lit.chat.vocabulary import DESCRIPTION_QUESTION
from audit_lit.decoder.config import DecoderConfig
from audit_lit.decoder.formats.oracle_lens import PROMPT, oracle_lens
from audit_lit.decoder.formats.sidecar import Layers, Sidecar, base_name, check_schema, checked, model_sizes
from audit_lit.decoder.prompt import build_prompt
from audit_lit.decoder.wire_format import Factor
from audit_lit.errors import DecoderConfigError
from audit_lit.files.reading import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FILE = "run.json"
NEWEST_SCHEMA = 1
DECIDES = re.compile(
    r"(?<![a-z])(activations?|alpha|cent\w*|embed\w*|gain|hooks?|inject\w*|layers?|markers?|mean|norm\w*|positions?"
    r"|project\w*|prompts?|scal\w*|slots?|steer\w*|templates?|transforms?|whiten\w*|write\w*)(?![a-z])",
    re.IGNORECASE,
)
"""A word in the name of a field that decides how activations enter; which others there are is written down nowhere."""
ANY_MARKER = "\u3200-\u33ff"
"""Stands for a marker that the tokenizer decides."""
MAX_NEW_TOKENS = 128
PROMPTS = {
    "concepts_raw": PROMPT.replace("tags: ", "tags:\n").replace("each as a", "each as\na"),
    "concepts_raw_inline": PROMPT,
}


class Part(Sidecar):
    """A part of the file: interp-engine passes over fields that it does not know, such as those of the training."""

    describing: ClassVar[frozenset[str]] = frozenset({"lora_alpha", "max_grad_norm"})

    @classmethod
    def describes(cls, name: object) -> bool:
        """Return whether no word of a field's name is about how activations enter."""
        return name in cls.describing or not DECIDES.search(str(name))


class Extra(Part):
    """The name of the prompt."""

    prompt: Literal["concepts_raw", "concepts_raw_inline"] = "concepts_raw"


class Read(Part):
    """How an activation is read: rescaled to the norm ``alpha``, from one of the layers."""

    alpha: Factor
    layers: Layers
    transform: Literal["unit"] = "unit"
    extra: Extra = Extra()


class Run(Part):
    """The part of the file that says so."""

    schema_version: StrictInt = 1
    config: Read


def read(path: Path, folder: Path, name: str) -> DecoderConfig:
    """Return the configuration that ``run.json`` describes, with a marker that is still to be chosen.

    Raises:
        DecoderConfigError: If it is of a newer schema, or a field is missing or unknown.
    """
    run = checked(Run, read_json(path, DecoderConfigError), path)
    check_schema(run.schema_version, NEWEST_SCHEMA, path)
    fields = run.config
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
