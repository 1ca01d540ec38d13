"""Does a reading of a file fit a decoder? Of the same model, at the layers that it reads, and of visible tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from audit_lit.answers.reading import Reading
from audit_lit.decoder.config import DecoderConfig
from audit_lit.decoder.decoder import Decoder
from audit_lit.errors import ActivationError, DecoderMismatch
from audit_lit.models.target import Target

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def fitted(reading: Reading, decoder: Decoder, target: Target | None = None) -> Reading:
    """Return a reading at the layers that a decoder reads, on its device.

    Where the tokenizer is known (that of ``target``, or the decoder's own, if the reading is of its base), the dialog
    is rendered again, and the tokens are compared.

    Raises:
        DecoderMismatch: If it is of another model than the decoder was trained for, or of another width.
        ActivationError: If a layer was not read, or its dialog gives other tokens than it holds.
    """
    config, source = decoder.config, reading.activations.source
    _check_model(reading, config)
    if target is not None and target.name == source:
        _check_tokens(reading, config, target.tokenizer)
    elif source == config.target == config.base:
        _check_tokens(reading, config, decoder.tokenizer)
    chosen = reading.at_layers(config.read_layers).to(decoder.device)
    decoder.check_activations(chosen.activations)
    return chosen


def _check_model(reading: Reading, config: DecoderConfig) -> None:
    activations = reading.activations
    n_layers = max(config.n_layers, 1 + max(activations.layers))  # more, if there are layers that the target lacks
    config.check_target(activations.resid.shape[-1], n_layers, activations.source, reading.fingerprint)
    if reading.fingerprint is None and activations.source != config.target:
        raise DecoderMismatch(
            f"decoder {config.name!r} reads {config.target!r}, and these activations are of {activations.source!r}, "
            "without a fingerprint that could tell whether it is the same model. If it is, write "
            f"{config.target!r} as their source, or the model's fingerprint (see docs/activations.md)."
        )


def _check_tokens(reading: Reading, config: DecoderConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise unless the dialog of a reading, rendered again, has its tokens at its positions, and shows them."""
    if reading.dialog is None:
        return
    rendered, activations = config.render(reading.dialog, tokenizer), reading.activations
    read = (rows[activations.mask].tolist() for rows in (activations.positions, activations.token_ids))
    for position, token_id in zip(*read, strict=True):
        there = dict(enumerate(rendered.token_ids)).get(position)
        if there != token_id:
            raise ActivationError(
                f"the reading holds token {token_id} at position {position}, where its dialog has {there}, of "
                f"{len(rendered.token_ids)} tokens; expected the dialog as the tokenizer and the chat template of "
                f"{activations.source!r} render it. Run the model on those tokens, or name the right model."
            )
        if not rendered.visible[position] and position != config.first_position:
            raise ActivationError(
                f"the reading holds position {position}, which is in a hidden turn of its dialog; expected visible "
                "tokens alone, since the decoder must not see what is hidden. Read others."
            )
