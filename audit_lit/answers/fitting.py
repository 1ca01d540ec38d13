"""Does a reading of a file fit a decoder? Of the same model, at the layers that it reads, and of visible tokens."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from audit_lit.answers.reading import REPLY, Reading, visible_text_of, without_texts
from audit_lit.chat.dialog import RenderedDialog
from audit_lit.chat.positions import reveal_positions
from audit_lit.decoder.config import DecoderConfig
from audit_lit.decoder.decoder import Decoder
from audit_lit.errors import ActivationError, DecoderMismatch, DialogError
from audit_lit.models.target import Target


def fitted(reading: Reading, decoder: Decoder, target: Target | None = None, *, contrast: str | None = None) -> Reading:
    """Return a reading at the layers that a decoder reads, on its device.

    Where a tokenizer is known (that of ``target``, or the decoder's own, if it reads its base), the dialog is rendered
    again, and the reading is compared with it. ``rendered`` of what is returned is None if that cannot be: then nobody
    knows whether its positions are visible. A reading of the difference of two models names it by ``contrast``.

    Raises:
        DecoderMismatch: If it is of another model than the decoder was trained for, or of another width.
        ActivationError: If a layer was not read, or its dialog gives other tokens than it holds, hides some of them, or
            contradicts what else it says of itself.
    """
    _check_model(reading, decoder.config, {decoder.config.target, target.name if target else None, contrast})
    rendered = _rendering(reading, decoder, target)
    if rendered is not None:
        _check_visible(reading, rendered, decoder.config)
        _check_metadata(reading, rendered)
    chosen = reading.at_layers(decoder.config.read_layers).to(decoder.device)
    decoder.check_activations(chosen.activations)
    return replace(chosen, rendered=rendered)


def _check_model(reading: Reading, config: DecoderConfig, known: Collection[str | None]) -> None:
    activations = reading.activations
    n_layers = max(config.n_layers, 1 + max(activations.layers))  # more, if there are layers that the target lacks
    config.check_target(activations.resid.shape[-1], n_layers, activations.source, reading.fingerprint)
    is_compared = bool(config.target_fingerprint and reading.fingerprint)
    if not is_compared and activations.source not in known:
        raise DecoderMismatch(
            f"decoder {config.name!r} reads {config.target!r}, and these activations are of {activations.source!r}, "
            f"without a fingerprint that could tell whether it is the same model (the reading has "
            f"{reading.fingerprint!r:.80}, and the decoder {config.target_fingerprint!r:.80}). If it is, write "
            f"{config.target!r} as their source, or give both the model's fingerprint (see docs/activations.md)."
        )


def _rendering(reading: Reading, decoder: Decoder, target: Target | None) -> RenderedDialog | None:
    """Return the dialog as its model reads it, with the reading's tokens at its positions; None if that is unknown.

    Raises:
        ActivationError: If the dialog has other tokens there in the model that the reading names.
    """
    config, source = decoder.config, reading.activations.source
    known = {config.target: decoder.tokenizer} if config.target == config.base else {}
    known |= {target.name: target.tokenizer} if target else {}
    if reading.dialog is None or not known:
        rendered = reading.rendered
        return rendered if rendered and not _differing(reading, rendered) else None
    tokenizer = known.get(source, [*known.values()][-1])  # of a model that the fingerprint tells to be the same
    try:
        rendered = config.render(reading.dialog, tokenizer)
        if differing := _differing(reading, rendered):
            raise ActivationError(
                f"the reading holds token {differing[1]} at position {differing[0]}, where its dialog has "
                f"{differing[2]}, of {len(rendered.token_ids)} tokens; expected the dialog as the tokenizer and the "
                f"chat template of {source!r} render it. Run the model on those tokens, or name the right model."
            )
    except (ActivationError, DialogError):
        if source in known:
            raise
        return None  # a fine-tune may have another chat template
    decoded = tuple(tokenizer.batch_decode([[token_id] for _, token_id in _read(reading)]))
    if reading.tokens not in (decoded, without_texts(reading.activations)):
        raise _contradiction("tokens", reading.tokens, decoded)
    return rendered


def _read(reading: Reading) -> list[tuple[int, int]]:
    """Return each position that was read, and the token there."""
    activations = reading.activations
    positions, token_ids = (rows[activations.mask].tolist() for rows in (activations.positions, activations.token_ids))
    return list(zip(positions, token_ids, strict=True))


def _differing(reading: Reading, rendered: RenderedDialog) -> tuple[int, int, int | None] | None:
    """Return the first position that has another token in a rendered dialog, with both tokens."""
    tokens = dict(enumerate(rendered.token_ids))
    pairs = ((position, token_id, tokens.get(position)) for position, token_id in _read(reading))
    return next((pair for pair in pairs if pair[1] != pair[2]), None)


def _check_visible(reading: Reading, rendered: RenderedDialog, config: DecoderConfig) -> None:
    """Raise ``ActivationError`` if a position is hidden, or not among those that are said to be revealed."""
    positions = {position for position, _ in _read(reading)} - {config.first_position}
    if hidden := sorted(position for position in positions if not rendered.visible[position]):
        raise ActivationError(
            f"the reading holds position {hidden[0]}, which is in a hidden turn of its dialog; expected visible "
            "tokens alone, since the decoder must not see what is hidden. Read others."
        )
    if reading.reveal is None:
        return
    try:
        revealed = reveal_positions(rendered, reading.reveal)
    except DialogError as err:
        raise ActivationError(f"the reading contradicts its dialog: {err}") from err
    if others := sorted(positions - {*revealed}):
        raise _contradiction("reveal", reading.reveal, f"some that reveals position {others[0]}, which was read")


def _check_metadata(reading: Reading, rendered: RenderedDialog) -> None:
    """Raise ``ActivationError`` if what a reading says of its dialog is not so."""
    raw = rendered.visible_text if reading.dialog is None else visible_text_of(reading.dialog)
    shown = (reading.visible_text or "").partition(REPLY)[0] if reading.reveal is None else reading.visible_text
    if not {reading.visible_text, shown} & {None, raw, rendered.visible_text}:
        raise _contradiction("visible_text", reading.visible_text, raw)
    if (n_hidden := int(reading.activations.n_hidden)) != rendered.n_hidden:
        raise _contradiction("n_hidden", n_hidden, rendered.n_hidden)


def _contradiction(name: str, got: object, expected: object) -> ActivationError:
    return ActivationError(
        f"the reading has {name} {got!r:.80}, which contradicts its dialog; expected {expected!s:.80}. Correct it, or "
        "read the dialog again."
    )
