"""A session: one target and one decoder, and the reading of dialogs by both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from threading import RLock
from typing import ParamSpec, TypeVar

from audit_lit.chat.arguments import one_dialog
from audit_lit.chat.decoys import decoy_dialogs
from audit_lit.chat.dialog import Dialog, RenderedDialog, Reveal
from audit_lit.chat.messages import read_dialog
from audit_lit.chat.positions import aligned_positions, shared_positions
from audit_lit.decoder.calibration import CalibrationRecord
from audit_lit.decoder.calibration_files import calibrated, find_calibration, require_fitting
from audit_lit.decoder.decoder import Decoder
from audit_lit.errors import EditError
from audit_lit.models.activations import Activations
from audit_lit.models.capture import capture_batch
from audit_lit.models.target import Target

ONE_AT_A_TIME = RLock()
"""Held by whoever runs the models: hooks are on a model for all threads, and torch's random state is the process's."""
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def one_at_a_time(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return a function that waits until no other thread runs the models."""

    @wraps(function)
    def alone(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with ONE_AT_A_TIME:
            return function(*args, **kwargs)

    return alone


@dataclass(frozen=True)
class Reading:
    """The part of one dialog that a decoder may see, and the same of its decoys.

    Attributes:
        rendered: The dialog as the target reads it.
        activations: The dialog's activations, one row.
        decoys: The activations of its decoys, one row each: the same visible turns after other hidden prompts.
        positions: The visible positions that are revealed, of which slots receive ``rendered.slot_positions``.
    """

    rendered: RenderedDialog
    activations: Activations
    decoys: Activations
    positions: tuple[int, ...]

    def __repr__(self) -> str:
        """Return what was read; the tensors would fill pages."""
        n_read, layers = int(self.activations.mask.sum()), ", ".join(map(str, self.activations.layers))
        n_tokens, source = len(self.rendered.token_ids), self.activations.source
        return f"<Reading of {n_read} of {n_tokens} tokens at layers {layers} of {source!r}, {len(self.decoys)} decoys>"


@dataclass(frozen=True)
class Session:
    """A target and a decoder that fits it, set to the layers that it reads: all audits and edits run on both."""

    target: Target
    decoder: Decoder
    full_decoder: Decoder
    """The decoder before a layer was chosen, and without what was measured of it here."""
    calibration: CalibrationRecord | None = None
    """What was measured of the two here (``audit-lit calibrate``); None if nothing was."""

    @classmethod
    def of(cls, target: Target, decoder: Decoder, layer: int | None = None) -> Session:
        """Bring target and decoder together, with a calibration of the two that is kept, if there is one.

        Raises:
            DecoderMismatch: If the decoder was not trained for the target, or not on that layer.
            CalibrationError: If a file of calibrations is malformed.
        """
        fingerprint = target.fingerprint() if decoder.config.target_fingerprint else None
        decoder.config.check_target(target.d_model, target.n_layers, target.name, fingerprint)
        session = cls(target, decoder.for_layer(layer), decoder)
        record = find_calibration(session.decoder, target)
        return session if record is None else session._with(record)

    def with_calibration(self, record: CalibrationRecord) -> Session:
        """Return a session with a calibration in place of the one that it has.

        Raises:
            CalibrationError: If it is of another decoder or target.
        """
        require_fitting(record, self.decoder, self.target)
        return self._with(record)

    def _with(self, record: CalibrationRecord) -> Session:
        is_choice = self.full_decoder.config.layer_choice == "one"
        decoder = self.full_decoder.for_layer(self.decoder.config.read_layers[0] if is_choice else None)
        return replace(self, decoder=calibrated(decoder, record), calibration=record)

    def for_layer(self, layer: int | None) -> Session:
        """Return a session that reads another layer; itself for None."""
        return self if layer is None else Session.of(self.target, self.full_decoder, layer)

    def read(self, dialog: Dialog, reveal: Reveal = "user") -> Reading:
        """Run the target once over a dialog and once over its decoys (see ``Auditor.read``)."""
        rendered, decoys, positions = self._rendered(dialog, reveal)
        layers = self.decoder.config.read_layers
        activations = capture_batch(self.target, [rendered], [positions], layers)
        decoy_positions = [aligned_positions(positions, rendered, decoy) for decoy in decoys]
        decoy_activations = self._read_decoys(decoys, decoy_positions)
        return Reading(rendered, activations, decoy_activations, tuple(positions))

    def read_alone(self, dialog: Dialog, reveal: Reveal = "user") -> Activations:
        """Run the target over a dialog, and return the activations that ``read`` does, without those of decoys."""
        rendered, _, positions = self._rendered(dialog, reveal)
        return capture_batch(self.target, [rendered], [positions], self.decoder.config.read_layers)

    def _rendered(self, dialog: Dialog, reveal: Reveal) -> tuple[RenderedDialog, list[RenderedDialog], Sequence[int]]:
        """Return a dialog and its decoys as the target reads them, and the positions that are read."""
        messages = read_dialog(one_dialog(dialog))
        config, tokenizer = self.decoder.config, self.target.tokenizer
        rendered = config.render(messages, tokenizer)
        decoys = [config.render(decoy, tokenizer) for decoy in decoy_dialogs(messages)]
        positions = config.select(rendered, reveal)
        if isinstance(reveal, str):  # some templates put the system prompt into the user's header, and so hide both
            positions = shared_positions(positions, rendered, decoys)
        return rendered, decoys, positions

    def _read_decoys(self, decoys: Sequence[RenderedDialog], positions: Sequence[Sequence[int]]) -> Activations:
        try:
            return capture_batch(self.target, decoys, positions, self.decoder.config.read_layers)
        except EditError as err:
            raise EditError(
                "the edit that is on the target cannot run on the dialog's decoys, which are other prompts and without "
                f"which no answer has its controls: {err} Ask under an edit of every token (method 'vector' or "
                "'lowrank'), or see what this one makes the model say by Auditor.check."
            ) from err
