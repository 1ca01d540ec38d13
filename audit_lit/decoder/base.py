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
from audit_lit.decoder.formats.published import how_to_load
from audit_lit.errors import DecoderMismatch, HubError, TargetError
from audit_lit.models.load_options import OFFLOADED, LoadOptions
from audit_lit.models.loading import (
    is_offloaded,
    is_quantised,
    load_base,
    load_tokenizer,
    model_folder,
    share_weights,
    weights_fingerprint,
)
from audit_lit.models.target import Target

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def base_of(
    config: DecoderConfig, target: Target | None, named: str | None = None, quantised: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return a decoder's base and its tokenizer.

    Args:
        config: The decoder's configuration.
        target: The target, whose weights may be those of the base.
        named: The caller's name for the base.
        quantised: Whether the weights of a quantised target of that name will do.

    Raises:
        DecoderMismatch: If the base is not named, or the one that was loaded has other weights.
        HubError: If it cannot be fetched.
        TargetError: If it cannot be loaded.
    """
    name, shared = named or config.base, _runnable(target)
    if (
        target is not None
        and shared is not None
        and named in (None, target.name)
        and _is_base(config, shared, name == target.name, quantised)
    ):
        return share_weights(shared), target.tokenizer
    if name is None:
        raise DecoderMismatch(
            f"decoder {config.name!r} does not name its base model; expected 'base' in {CONFIG_FILE}. Name it "
            f"yourself: --base NAME, or base= in Python.{how_to_load(config.name, '--base NAME')}"
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


def _runnable(target: Target | None) -> PreTrainedModel | None:
    """Return the target's weights, if a LoRA can run on them: PEFT cannot put one on offloaded layers."""
    base = target.base if target else None
    return None if base is None or is_offloaded(base) else base


def _is_base(config: DecoderConfig, shared: PreTrainedModel, has_its_name: bool, quantised: bool) -> bool:
    """Return whether a target's weights are those of a decoder's base.

    A fine-tune of the base may be audited, but must not answer, and neither must a quantised copy unless it is asked
    for: the LoRA and the thresholds are those of the base.
    """
    if quantised and has_its_name and is_quantised(shared):
        return True
    if config.base_fingerprint:
        return config.base_fingerprint == weights_fingerprint(shared)
    return has_its_name and not is_quantised(shared)


def _loaded(name: str, config: DecoderConfig, target: Target | None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    try:
        folder = model_folder(name, revision=config.target_revision if name == config.target else None)
        return load_base(folder, options_beside(target)), load_tokenizer(folder)
    except (HubError, TargetError) as err:
        raise type(err)(
            f"the decoder's base model is needed: {err} A folder or a mirror with its weights is named by --base NAME, "
            f"or base= in Python.{how_to_load(config.name, '--base NAME')}"
        ) from err


def options_beside(target: Target | None) -> LoadOptions:
    """Return how a decoder's base is loaded beside a target: in its precision, and on its device or split as it is.

    It is never float16, which would round weights to others than the fingerprint of a base tells.
    """
    base = target.base if target else None
    dtype = torch.float32 if base is None or base.dtype == torch.float32 else torch.bfloat16
    if base is not None and len(set((getattr(base, "hf_device_map", None) or {}).values()) - set(OFFLOADED)) > 1:
        return LoadOptions(device_map="auto", dtype=dtype)
    return LoadOptions(device=target.device if target else None, dtype=dtype)
