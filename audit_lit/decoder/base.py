"""The base model that a decoder's LoRA is put on: the target's own weights where they are the same, else loaded.

Names do not tell: mirrors share weights under other names, and fine-tunes are called like their base.

1. Where the decoder records a fingerprint of its base, that decides alone, for a target and for a model that is loaded.
2. Where it records none, a target of the base's very name is the base.
3. Else the named base is loaded. If the target turns out to have the same weights, the two share them.
4. ``base=`` names the model to load instead, as a confirmation by the caller: a decoder that records a fingerprint
   refuses other weights, and one that records none takes them if its LoRA fits their shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from audit_lit.decoder.config import CONFIG_FILE, DecoderConfig
from audit_lit.errors import DecoderMismatch, HubError, TargetError
from audit_lit.models.loading import load_base, load_tokenizer, model_folder, share_weights, weights_fingerprint
from audit_lit.models.target import Target

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def base_of(
    config: DecoderConfig, target: Target | None, named: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return a decoder's base and its tokenizer; ``named`` is the caller's name for it.

    Raises:
        DecoderMismatch: If the base is not named, or the one that was loaded has other weights.
        HubError: If it cannot be fetched.
        TargetError: If it cannot be loaded.
    """
    name, shared = named or config.base, target.base if target is not None else None
    if target is not None and shared is not None and named in (None, target.name):
        expected = config.base_fingerprint  # a fine-tune of the base may be audited, but must not answer
        if expected == weights_fingerprint(shared) if expected else name == target.name:
            return share_weights(shared), target.tokenizer
    if name is None:
        raise DecoderMismatch(
            f"decoder {config.name!r} does not name its base model; expected 'base' in {CONFIG_FILE}. Name it "
            "yourself: --base NAME, or base= in Python."
        )
    base, tokenizer = _loaded(name, config, target)
    fingerprint = weights_fingerprint(base)
    if config.base_fingerprint not in (None, fingerprint):
        raise DecoderMismatch(
            f"decoder {config.name!r} was trained on a base with the fingerprint {config.base_fingerprint}, but "
            f"{name!r} has {fingerprint}: other weights, perhaps a fine-tune or another version. Name its own base, "
            f"{config.base!r}."
        )
    is_mirror = shared is not None and weights_fingerprint(shared) == fingerprint
    return (share_weights(shared) if shared is not None and is_mirror else base), tokenizer


def _loaded(name: str, config: DecoderConfig, target: Target | None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    try:
        folder = model_folder(name, revision=config.target_revision if name == config.target else None)
        device = str(target.device) if target else "cpu"
        return load_base(folder, device=device, dtype=torch.float32), load_tokenizer(folder)
    except (HubError, TargetError) as err:
        raise type(err)(f"the decoder's base model is needed: {err}") from err
