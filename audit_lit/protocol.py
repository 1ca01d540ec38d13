"""How activations enter a decoder: the wire format, saved as ``protocol.json`` beside the adapter."""

from __future__ import annotations

import difflib
import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from audit_lit.dialog import Rendered, Reveal, reveal_positions
from audit_lit.errors import DecoderMismatch, ProtocolError

FILE = "protocol.json"
FORMAT = 1


@dataclass(frozen=True)
class Protocol:
    """A decoder's wire format.

    Attributes:
        name: What the decoder is called.
        target: Name of the model whose activations it reads.
        d_model: Width of those activations.
        n_layers: Number of blocks of that model.
        read_layers: Blocks whose output is read, counted from 0.
        prompt: The decoder's input with ``{sections}`` and ``{question}``.
        section: One per read layer, with ``{slots}`` and, if the decoder is told, ``{layer}``.
        placeholder: Text of one slot; must be one token of the decoder.
        write: Operation at the slots: ``replace``, ``add`` (norm-matched) or ``project``.
        write_layer: Decoder block whose output is written.
        layer_choice: Whether a prompt has a section for ``all`` read layers, or for ``one`` of them (the first, unless
            the caller chooses another).
        positions: ``all`` revealed tokens, or their ``edges``: the first and last ``n_edge`` and the last of the text.
        n_edge: See ``positions``.
        reads: ``text`` is the control ``text_trained``, which is given the visible text instead of activations.
        chat: ``prompt`` is a user message for the decoder's own chat template; otherwise it is the whole input.
        section_separator: What stands between sections.
        placeholder_separator: What stands between slots.
        shift_positions: Decoder positions start at the number of hidden target tokens (LatentQA trains so).
        answer_end: Token that ends an answer; None means the tokenizer's end-of-sequence token.
        base: Name of the decoder's base model.
        base_fingerprint: ``weights_fingerprint`` of the base, to know whether a target is that very model.
        claim_scale: Slope and offset that make a claim's evidence in nats a log-odds (see ``claims.py``); None if not
            measured.
        choice_scale: Slope that makes the difference of two claims' evidence a log-odds, if exactly one is right; None
            likewise.
        n_reference: How many dialogs' activations its ``reference`` holds; 0 if claims are compared with decoys.
        lift_threshold: Lift (nats per token) that one in twenty answers about nothing reaches; None if not measured.
        target_revision: Commit of the target it was trained on.
        target_fingerprint: ``Target.fingerprint()`` of that model.
        lora_scaling: Factor of the LoRA update, to check against the adapter's own settings.
        training_data: SHA-256 of the training data.
        examples: How many examples it was trained on, in all runs that led to it.
        licence: Licence of the adapter.
    """

    name: str
    target: str
    d_model: int
    n_layers: int
    read_layers: tuple[int, ...]
    prompt: str
    section: str
    placeholder: str
    write: Literal["replace", "add", "project"]
    write_layer: int
    layer_choice: Literal["all", "one"] = "all"
    positions: Literal["all", "edges"] = "all"
    n_edge: int = 3
    reads: Literal["activations", "text"] = "activations"
    chat: bool = True
    section_separator: str = "\n"
    placeholder_separator: str = ""
    shift_positions: bool = False
    answer_end: str | None = None
    base: str | None = None
    base_fingerprint: str | None = None
    claim_scale: tuple[float, float] | None = None
    choice_scale: float | None = None
    n_reference: int = 0
    lift_threshold: float | None = None
    target_revision: str | None = None
    target_fingerprint: str | None = None
    lora_scaling: float | None = None
    training_data: str | None = None
    examples: int | None = None
    licence: str | None = None

    def __post_init__(self) -> None:
        """Refuse a format that cannot be followed.

        Raises:
            ProtocolError: If a field contradicts the others.
        """
        for field, marks in (("prompt", ("{sections}", "{question}")), ("section", ("{slots}",))):
            for mark in marks:
                if getattr(self, field).count(mark) != 1:
                    raise ProtocolError(f"{field}={getattr(self, field)!r} must contain {mark} exactly once.")
        known = {"write": ("replace", "add", "project"), "positions": ("all", "edges"), "layer_choice": ("all", "one")}
        for field, options in known.items():
            if getattr(self, field) not in options:
                raise ProtocolError(f"{field}={getattr(self, field)!r} must be one of {', '.join(options)}.")
        if not self.read_layers or not all(0 <= layer < self.n_layers for layer in self.read_layers):
            raise ProtocolError(f"read_layers={list(self.read_layers)} must name some of 0-{self.n_layers - 1}.")
        if self.n_edge < 1:
            raise ProtocolError(f"n_edge={self.n_edge} must be at least 1.")

    def select(self, rendered: Rendered, reveal: Reveal) -> tuple[int, ...]:
        """Return the token positions to read: those that ``reveal`` names, or their edges; explicit ones as they are.

        Raises:
            DialogError: If ``reveal`` selects nothing, or something hidden.
        """
        revealed = reveal_positions(rendered, reveal)
        if self.positions == "all" or not isinstance(reveal, str):
            return revealed
        text_ends = [turn.text_end - 1 for turn in rendered.turns if turn.text_end - 1 in revealed]
        return tuple(sorted({*revealed[: self.n_edge], *text_ends[-1:], *revealed[-self.n_edge :]}))

    def at(self, layer: int) -> Protocol:
        """Return the wire format for one of the read layers alone.

        Thresholds and scales were measured at the first, and are dropped for another.

        Raises:
            DecoderMismatch: If the decoder was not trained on that layer alone.
        """
        if self.layer_choice == "one" and layer in self.read_layers:
            alone = replace(self, read_layers=(layer,), layer_choice="all")
            first = layer == self.read_layers[0]
            return alone if first else replace(alone, lift_threshold=None, claim_scale=None, choice_scale=None)
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
            DecoderMismatch: If width, depth, or the model itself differ.
        """
        for what, expected, got in (("d_model", self.d_model, d_model), ("layers", self.n_layers, n_layers)):
            if expected != got:
                raise DecoderMismatch(
                    f"decoder {self.name!r} reads a target with {what}={expected}, but {name!r} has {what}={got}. "
                    f"Load the target that it was trained for ({self.target})."
                )
        if self.target_fingerprint and fingerprint and self.target_fingerprint != fingerprint:
            raise DecoderMismatch(
                f"decoder {self.name!r} was trained on {self.target!r} (fingerprint {self.target_fingerprint}), but "
                f"{name!r} has fingerprint {fingerprint}: another model of the same shape. Load {self.target!r}."
            )

    def save(self, folder: Path) -> None:
        """Write ``protocol.json`` into ``folder``."""
        content = {"format": FORMAT, **asdict(self)}
        (folder / FILE).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Protocol:
        """Read ``protocol.json`` from ``folder``.

        Raises:
            ProtocolError: If it is malformed, of a newer format, or has unknown or missing fields.
        """
        path = folder / FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as err:
            raise ProtocolError(f"{path} could not be read ({err}); expected a JSON document.") from err
        if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
            raise ProtocolError(
                f"{path} is not of format {FORMAT}; expected one written by this version. Upgrade audit-lit."
            )
        names = [field.name for field in fields(cls)]
        for key in content:
            if key not in names:
                near = difflib.get_close_matches(key, names, n=1)
                raise ProtocolError(
                    f"{path} has the unknown field {key!r}.{f' Did you mean {near[0]!r}?' if near else ''}"
                )
        try:
            values: dict[str, Any] = {**content, "read_layers": tuple(content["read_layers"])}
            if content.get("claim_scale") is not None:
                slope, offset = content["claim_scale"]
                values["claim_scale"] = (float(slope), float(offset))
            return cls(**values)
        except (KeyError, TypeError, ValueError, AttributeError) as err:
            raise ProtocolError(f"{path} lacks a field or has one of a wrong type: {err}.") from err
