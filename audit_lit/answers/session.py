"""A session: one target and one decoder, and what the decoder may see of a dialog."""

from __future__ import annotations

from dataclasses import dataclass

from audit_lit.chat.alignment import aligned_positions, shared_positions
from audit_lit.chat.decoys import decoy_dialogs
from audit_lit.chat.dialog import Dialog, RenderedDialog, Reveal
from audit_lit.chat.rendering import render
from audit_lit.decoder.decoder import Decoder
from audit_lit.models.activations import Activations
from audit_lit.models.capture import capture_batch
from audit_lit.models.target import Target


@dataclass(frozen=True)
class Reading:
    """What a decoder may see of one dialog.

    Attributes:
        rendered: The dialog as the target reads it.
        activations: One row, the dialog's own.
        decoys: A row per decoy: the same visible turns after other hidden prompts.
    """

    rendered: RenderedDialog
    activations: Activations
    decoys: Activations


@dataclass(frozen=True)
class Session:
    """What audits, edits and evaluations run on.

    Attributes:
        target: The model under audit.
        decoder: The model that answers, set to the layers that it reads here.
        full_decoder: The same decoder for every layer that it can read, each by itself.
    """

    target: Target
    decoder: Decoder
    full_decoder: Decoder

    @classmethod
    def of(cls, target: Target, decoder: Decoder, layer: int | None = None) -> Session:
        """Bring target and decoder together.

        Args:
            target: The model under audit.
            decoder: The model that answers.
            layer: The layer to read, for a decoder that reads one of several; None takes its first.

        Raises:
            DecoderMismatch: If the decoder was trained for another model, or not on that layer.
        """
        fingerprint = target.fingerprint() if decoder.config.target_fingerprint else None
        decoder.config.check_target(target.d_model, target.n_layers, target.name, fingerprint)
        return cls(target, decoder.for_layer(layer), decoder)

    def for_layer(self, layer: int | None) -> Session:
        """Return the session that reads another layer; itself for None.

        Raises:
            DecoderMismatch: If the decoder was not trained on that layer.
        """
        return self if layer is None else Session.of(self.target, self.full_decoder, layer)

    def read(self, dialog: Dialog, reveal: Reveal = "user") -> Reading:
        """Run the target once over a dialog and once over its decoys (see ``Auditor.read``).

        Raises:
            DialogError: If the dialog is malformed, or nothing is revealed.
        """
        tokenizer, config = self.target.tokenizer, self.decoder.config
        rendered = render(dialog, tokenizer)
        decoys = [render(decoy, tokenizer) for decoy in decoy_dialogs(dialog)]
        positions = config.select(rendered, reveal)
        if isinstance(reveal, str):  # some templates hide a user's header together with the system prompt in it
            positions = shared_positions(positions, rendered, decoys)
        activations = capture_batch(self.target, [rendered], [positions], config.read_layers)
        decoy_positions = [aligned_positions(positions, rendered, decoy) for decoy in decoys]
        return Reading(rendered, activations, capture_batch(self.target, decoys, decoy_positions, config.read_layers))
