"""A reading: what a decoder may see of one dialog, and its file, by which other tools can give it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audit_lit.chat.dialog import RenderedDialog, Reveal, is_hidden
from audit_lit.chat.messages import Message, read_dialog
from audit_lit.chat.positions import ROLES, check_reveal
from audit_lit.errors import ActivationError, DialogError
from audit_lit.files.documents import decode_json
from audit_lit.files.writing import dump_json
from audit_lit.models.activation_files import CONVENTION, FORMAT_2, broken, read_file, write_file
from audit_lit.models.activations import TENSORS, Activations
from audit_lit.settings import did_you_mean

REPLY = "\n(reply) assistant: "
"""What stands before the reply to a dialog, where an observer reads that, too."""
PREFIXES = {"activations": "", "decoys": "decoys.", "twins": "twins."}
"""What the names of a file's tensors begin with, by the field that they belong to."""
REQUIRED = ("format", "convention", "layers", "source")
TEXTS = ("visible_text", "revision", "fingerprint")
DOCUMENTS = ("dialog", "tokens", "reveal")
"""Metadata that is text as it is, and metadata that is JSON; all of it may be missing."""
KNOWN = (*REQUIRED, *TEXTS, *DOCUMENTS, "note")


@dataclass(frozen=True)
class Reading:
    """The part of one dialog that a decoder may see, and the same of its decoys.

    Attributes:
        activations: The dialog's activations, one row.
        decoys: The activations of its decoys, one row each: the same visible turns after other hidden prompts. None if
            they were not read: then the control ``shuffled`` is missing.
        tokens: The text of each token that was read.
        rendered: The dialog as the target reads it; None of a file, until it is rendered again for a decoder (see
            ``answers.fitting``), or if it cannot be.
        positions: The visible positions that were revealed, of which slots receive ``rendered.slot_positions``; empty
            if it is a file's.
        visible_text: The messages that are not hidden, as an observer reads them; None if they are unknown: then the
            controls that read text are missing.
        dialog: The messages, the hidden ones included; None if they are unknown.
        twins: The activations of neutral twins of the dialog, for a scan; None if they were not read.
        reveal: Whose activations were read (see ``Auditor.ask``); None if that is unknown.
        revision: Commit of the model that they were read from, if known.
        fingerprint: Its fingerprint (see ``hooks.fingerprint``), if known.
    """

    activations: Activations
    decoys: Activations | None = None
    tokens: tuple[str, ...] = ()
    rendered: RenderedDialog | None = None
    positions: tuple[int, ...] = ()
    visible_text: str | None = None
    dialog: tuple[Message, ...] | None = None
    twins: Activations | None = None
    reveal: Reveal | None = None
    revision: str | None = None
    fingerprint: str | None = None

    def __repr__(self) -> str:
        """Return what was read; the tensors would fill pages."""
        n_read, layers = int(self.activations.mask.sum()), ", ".join(map(str, self.activations.layers))
        n_decoys = 0 if self.decoys is None else len(self.decoys)
        return f"<Reading of {n_read} tokens at layers {layers} of {self.activations.source!r}, {n_decoys} decoys>"

    @property
    def parts(self) -> dict[str, Activations]:
        """The activations of the dialog, of its decoys and of its twins, as far as they were read."""
        return {name: part for name in PREFIXES if (part := getattr(self, name)) is not None}

    def at_layers(self, layers: Sequence[int]) -> Reading:
        """Return the reading at some of its layers; raise ``ActivationError`` if one of them was not read."""
        changed: dict[str, Any] = {name: part.at_layers(layers) for name, part in self.parts.items()}
        return replace(self, **changed)

    def to(self, device: str | torch.device) -> Reading:
        """Return the reading on a device."""
        changed: dict[str, Any] = {name: part.to(device) for name, part in self.parts.items()}
        return replace(self, **changed)

    def save(self, path: str | Path) -> None:
        """Write a safetensors file of everything that was read (docs/activations.md describes it).

        It holds the dialog, hidden messages included. To keep them out, save ``replace(reading, dialog=None)``.

        Raises:
            OutputError: If it cannot be written, or a file that holds something else would be written over.
        """
        parts = self.parts.items()
        tensors = {PREFIXES[part] + name: tensor for part, rows in parts for name, tensor in rows.tensors().items()}
        fixed = {"format": FORMAT_2, "convention": CONVENTION, **self.activations.metadata()}
        texts = {name: value for name in TEXTS if (value := getattr(self, name)) is not None}
        documents = {name: dump_json(value) for name in DOCUMENTS if (value := getattr(self, name)) is not None}
        write_file(path, tensors, {**fixed, **texts, **documents})

    @classmethod
    def load(cls, path: str | Path) -> Reading:
        """Read a file that ``save`` or another tool wrote, or activations of the first format.

        Raises:
            ActivationError: If the file is of another kind or a newer format, incomplete, holds several dialogs, or
                decoys of another dialog.
        """
        tensors, metadata = read_file(path)
        _refuse_unknown(tensors, metadata, path)
        parts: dict[str, Any] = {
            name: Activations.of_file(tensors, metadata, path, prefix)
            for name, prefix in PREFIXES.items()
            if name == "activations" or any(key.startswith(prefix) for key in tensors)
        }
        reading = cls(**parts, **_documents(metadata, path))
        _check_parts(reading, path)
        n_read = int(reading.activations.mask.sum())
        if "tokens" in metadata and len(reading.tokens) != n_read:
            raise broken(path, ValueError(f"it names {len(reading.tokens)} tokens, and holds {n_read}"))
        return replace(reading, tokens=reading.tokens or without_texts(reading.activations))


def visible_text_of(dialog: Sequence[Mapping[str, Any]]) -> str:
    """Return what an observer reads of messages (see ``RenderedDialog.visible_text``)."""
    return "\n".join(f"{message['role']}: {message['content']}" for message in dialog if not is_hidden(message))


def without_texts(activations: Activations) -> tuple[str, ...]:
    """Return what the tokens of a row are called where their texts are unknown."""
    return tuple(f"token {token_id}" for token_id in activations.token_ids[activations.mask].tolist())


def _refuse_unknown(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], path: str | Path) -> None:
    names = {prefix + name: None for prefix in PREFIXES.values() for name in TENSORS}
    for what, got, known in (("tensor", tensors, names), ("metadata", metadata, KNOWN)):
        for name in got:
            if name not in known:
                raise ActivationError(
                    f"{path} holds {what} of the name {name!r}, which is not read; expected some of {', '.join(known)}."
                    f"{did_you_mean(name, known)} Leave it out, or put what only people read into 'note'."
                )


def _documents(metadata: Mapping[str, str], path: str | Path) -> dict[str, Any]:
    """Return what the metadata holds beside the activations' own."""
    values: dict[str, Any] = {name: metadata[name] for name in TEXTS if name in metadata}
    try:
        values |= {name: decode_json(metadata[name]) for name in DOCUMENTS if name in metadata}
        if "dialog" in values:
            values["dialog"] = read_dialog(values["dialog"])
            values.setdefault("visible_text", visible_text_of(values["dialog"]))
        if not all(isinstance(token, str) for token in values.get("tokens", [])):
            raise TypeError("tokens is not a list of texts")
        values["tokens"] = tuple(values.get("tokens", ()))
        if "reveal" in values:
            values["reveal"] = _reveal(values["reveal"])
    except (TypeError, ValueError, DialogError) as err:
        raise broken(path, err) from err
    return values


def _reveal(value: Any) -> Reveal:
    if isinstance(value, list) and value and all(type(position) is int for position in value):
        return tuple(value)
    if not isinstance(value, str):
        raise TypeError(f"reveal is {value!r:.80}, and neither a text nor a list of positions")
    check_reveal(value)
    return value


def _n_revealed(reveal: Reveal | None) -> int | None:
    """Return how many tokens a reading holds at most; None if that depends on the dialog."""
    if reveal is None or reveal in ROLES:
        return None
    return int(reveal.partition(":")[2]) if isinstance(reveal, str) else len(reveal)


def _check_parts(reading: Reading, path: str | Path) -> None:
    """Refuse several dialogs, and controls that are not of the same visible tokens."""
    rows = reading.activations
    if len(rows) != 1:
        raise ActivationError(f"{path} holds {len(rows)} dialogs; expected one in each file. Split it.")
    tokens = rows.token_ids[rows.mask].tolist()
    if (n_revealed := _n_revealed(reading.reveal)) is not None and n_revealed < len(tokens):
        raise broken(path, ValueError(f"it reveals {reading.reveal!r:.80}, and holds {len(tokens)} tokens"))
    for name, part in reading.parts.items():
        if part.resid.shape[-1] != rows.resid.shape[-1]:
            raise ActivationError(
                f"{path}: the {name} have width {part.resid.shape[-1]}, and the dialog {rows.resid.shape[-1]}; "
                "expected activations of one model."
            )
        last = (part.positions * part.mask).amax(dim=1)
        if bool(((part.n_hidden >= last) & (part.n_hidden > 0) & (last > 0)).any()):  # BOS alone may be read
            raise ActivationError(
                f"{path}: n_hidden of the {name} is {part.n_hidden.tolist()!s:.80}, and the last position that was "
                f"read {last.tolist()!s:.80}; expected fewer hidden tokens. Count those before the first visible one."
            )
        for row, mask in zip(part.token_ids, part.mask, strict=True):
            if row[mask].tolist()[1:] != tokens[1:] or int(mask.sum()) != len(tokens):  # LatentQA's first is special
                raise ActivationError(
                    f"{path}: the {name} were read at other tokens than the dialog; expected the same visible tokens "
                    "after other hidden prompts, in the same order. Read them again."
                )
