"""A decoder's configuration: how activations enter it, how it was calibrated, and where it comes from.

It is saved as ``protocol.json`` beside the adapter.
"""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, StrictStr, model_validator

from audit_lit.chat.dialog import Dialog, RenderedDialog, Reveal
from audit_lit.chat.positions import reveal_positions
from audit_lit.chat.rendering import render
from audit_lit.decoder.wire_format import FILE_ORDER, Count, Index, Number, Text, WireFormat
from audit_lit.errors import DecoderConfigError, DecoderMismatch, OutputError
from audit_lit.files.paths import as_path
from audit_lit.files.reading import read_json
from audit_lit.files.writing import DECODER, dump_json, saved, write_whole
from audit_lit.settings import explain

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONFIG_FILE = DECODER
FORMAT = 1


class Calibration(BaseModel):
    """Values measured on dialogs that the decoder was not trained on.

    Attributes:
        lift_threshold: Lift in nats per token that one in twenty answers about nothing reaches; None if not measured.
        claim_scale: Slope and offset that turn a claim's evidence in nats into a log-odds (see ``answers.claims``);
            None if not measured.
        choice_scale: Slope that turns the difference between two claims' evidence into a log-odds, if exactly one of
            them is right; None if not measured.
        n_reference: Number of dialogs whose activations the decoder's ``reference`` holds; 0 if claims are compared
            with decoys.
    """

    lift_threshold: Number | None = None
    claim_scale: tuple[Number, Number] | None = None
    choice_scale: Number | None = None
    n_reference: Index = 0


class Provenance(BaseModel):
    """Where the decoder comes from, and which models it belongs to.

    Attributes:
        name: Name of the decoder.
        target: Name of the model whose activations it reads.
        d_model: Width of those activations.
        n_layers: Number of blocks of that model.
        target_revision: Commit of the target that it was trained on.
        target_fingerprint: ``Target.fingerprint()`` of that model.
        base: Name of the decoder's base model.
        base_fingerprint: ``weights_fingerprint`` of the base, to know whether a target is that very model.
        lora_scaling: Factor of the LoRA update, to check against the adapter's own settings; those may give some
            modules another.
        training_data: SHA-256 of the training data.
        organisms: SHA-256 of the organisms whose differences it learned to read (see ``Library.sha256``); None if it
            learned none.
        examples: Number of examples that it was trained on, in all runs that led to it.
        licence: Licence of the adapter.
    """

    name: Text
    target: Text
    d_model: Count
    n_layers: Count
    target_revision: StrictStr | None = None
    target_fingerprint: StrictStr | None = None
    base: StrictStr | None = None
    base_fingerprint: StrictStr | None = None
    lora_scaling: Number | None = None
    training_data: StrictStr | None = None
    organisms: StrictStr | None = None
    examples: Index | None = None
    licence: StrictStr | None = None


class DecoderConfig(WireFormat, Calibration, Provenance):
    """Everything about a decoder except its weights: wire format, calibration and provenance.

    Attributes:
        reads: The input that the adapter was trained on: ``activations``, or the visible ``text`` for a text baseline.
    """

    reads: Literal["activations", "text"] = "activations"

    def __init__(self, /, **fields: Any) -> None:
        """Check the fields.

        Raises:
            DecoderConfigError: If a field is unknown, missing, of a wrong type, or contradicts another.
        """
        try:
            super().__init__(**fields)
        except ValueError as err:
            problems = explain(err, DecoderConfig)
            raise DecoderConfigError(f"malformed configuration of a decoder ({problems}). Correct it.") from err

    @model_validator(mode="after")
    def _reads_layers_that_exist(self) -> DecoderConfig:
        if max(self.read_layers) >= self.n_layers:
            raise ValueError(f"read_layers={list(self.read_layers)} must name layers from 0 to {self.n_layers - 1}")
        return self

    def render(self, dialog: Dialog, tokenizer: PreTrainedTokenizerBase) -> RenderedDialog:
        """Render a dialog as the target reads it for this decoder.

        Raises:
            DialogError: If the dialog is malformed, or the chat template does not take it.
        """
        rendered = render(dialog, tokenizer, enable_thinking=self.enable_thinking, show_bos=self.reads_bos)
        return replace(rendered, first_position=self.first_position)

    def select(self, rendered: RenderedDialog, reveal: Reveal) -> tuple[int, ...]:
        """Return the token positions to read: those that ``reveal`` names, or their edges.

        Explicit positions are read as they are.

        Raises:
            DialogError: If ``reveal`` selects nothing, or something hidden.
        """
        revealed = reveal_positions(rendered, reveal)
        if self.positions == "all" or not isinstance(reveal, str):
            return revealed
        if self.positions == "last":
            return revealed[-1:]
        text_ends = [turn.text_end - 1 for turn in rendered.turns if turn.text_end - 1 in revealed]
        return tuple(sorted({*revealed[: self.n_edge], *text_ends[-1:], *revealed[-self.n_edge :]}))

    def for_layer(self, layer: int) -> DecoderConfig:
        """Return the configuration for one of the read layers alone.

        Thresholds and scales were measured at the first read layer, so they are dropped for any other.

        Raises:
            DecoderMismatch: If the decoder was not trained on that layer alone, or it is no whole number.
        """
        if not isinstance(layer, Integral) or isinstance(layer, bool):
            raise DecoderMismatch(
                f"got layer={layer!r:.80}; expected one of the read layers {list(self.read_layers)} as a whole number. "
                "Leave the choice out to take the first."
            )
        layer = int(layer)
        if self.layer_choice == "one" and layer in self.read_layers:
            changes: dict[str, Any] = {"read_layers": (layer,), "layer_choice": "all"}
            if layer != self.read_layers[0]:
                changes |= {"lift_threshold": None, "claim_scale": None, "choice_scale": None}
            return self.changed(**changes)
        if self.read_layers == (layer,):
            return self
        several = " or ".join(map(str, self.read_layers)) if self.layer_choice == "one" else list(self.read_layers)
        raise DecoderMismatch(
            f"decoder {self.name!r} reads {'layer' if self.layer_choice == 'one' else 'layers'} {several}, but layer "
            f"{layer} was asked for. Choose a layer that it was trained on, or leave the choice out."
        )

    def check_target(self, d_model: int, n_layers: int, name: str, fingerprint: str | None) -> None:
        """Raise unless the decoder was trained for this target.

        Raises:
            DecoderMismatch: If the width, the depth or the model itself differs.
        """
        from audit_lit.hooks import difference, same_model  # here, since a recipe's settings need no torch

        for size, expected, got in (("d_model", self.d_model, d_model), ("layers", self.n_layers, n_layers)):
            if expected != got:
                raise DecoderMismatch(
                    f"decoder {self.name!r} reads a target with {size}={expected}, but {name!r} has {size}={got}. "
                    f"Load the target that it was trained for ({self.target})."
                )
        if self.target_fingerprint and fingerprint and not same_model(self.target_fingerprint, fingerprint):
            raise DecoderMismatch(
                f"decoder {self.name!r} was trained on {self.target!r} (fingerprint {self.target_fingerprint}), but "
                f"{name!r} has fingerprint {fingerprint}: another model of the same shape, with "
                f"{difference(self.target_fingerprint, fingerprint)}. Load {self.target!r}, in float32 or bfloat16."
            )

    def changed(self, **fields: Any) -> DecoderConfig:
        """Return the configuration with other values of some fields, checked as a new one is.

        Raises:
            DecoderConfigError: If a field is unknown, of a wrong type, or contradicts another.
        """
        return DecoderConfig(**{**self.to_dict(), **fields})

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, in the order of ``protocol.json``, so that its hash stays the same."""
        content = self.model_dump()
        return {name: content[name] for name in (*FILE_ORDER, *sorted({*content} - {*FILE_ORDER}))}

    def save(self, folder: str | Path) -> None:
        """Write ``protocol.json`` into ``folder``; raise ``OutputError`` if it cannot be written."""
        path = as_path(folder, OutputError, "the folder of a decoder") / CONFIG_FILE
        content = {"format": FORMAT, **self.to_dict()}
        with saved(path, OutputError):
            write_whole(path, dump_json(content, indent=2) + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> DecoderConfig:
        """Read ``protocol.json`` from ``folder``.

        Raises:
            DecoderConfigError: If the file is malformed, of a newer format, or has unknown or missing fields.
        """
        return cls.read(as_path(folder, DecoderConfigError, "the folder of a decoder") / CONFIG_FILE)

    @classmethod
    def read(cls, path: Path) -> DecoderConfig:
        """Read a file like ``protocol.json``, of any name (see ``load``)."""
        content = read_json(path, DecoderConfigError, finite=False)  # the fields say so in words
        stated = content.pop("format", None) if isinstance(content, dict) else None
        if stated != FORMAT:
            raise DecoderConfigError(
                f"{path} is not of format {FORMAT}: got {f'format {stated!r:.40}' if stated else 'none'}; expected "
                f'{{"format": {FORMAT}, "name": ..., ...}}, as Decoder.save writes it. Upgrade audit-lit for a newer '
                "file."
            )
        try:
            return cls(**content)
        except DecoderConfigError as err:
            raise DecoderConfigError(f"{path}: {err} Or fetch the decoder's folder again.") from err
