"""Audit activations of files: a folder of readings, one for each dialog, in which nothing has to run."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from audit_lit.answers.controls import missing_controls
from audit_lit.answers.reading import Reading
from audit_lit.answers.session import Session
from audit_lit.chat.dialog import Reveal
from audit_lit.chat.formats import NamedDialog, Unreadable
from audit_lit.errors import AuditLitError, DialogError, OutputError, ScanError
from audit_lit.files.reading import sha256_of
from audit_lit.models.activations import Activations

ENDING = ".safetensors"


@dataclass(frozen=True)
class NamedReading(NamedDialog):
    """A dialog whose activations are in a file."""

    path: Path = Path()

    def read(self, session: Session, reveal: Reveal) -> Reading:
        """Return the reading, if a scan can use it.

        Raises:
            ActivationError: If the file is broken, or lacks a layer.
            DecoderMismatch: If it is of another model.
            DialogError: If it does not allow all controls, lacks neutral twins, or reveals something else.
        """
        reading = session.read(Reading.load(self.path))
        lacks = [*missing_controls(session.decoder, reading), *(["twins"] if reading.twins is None else [])]
        if lacks:
            raise DialogError(
                f"{self.path} lacks what {', '.join(lacks)} need; a scan takes files with the dialog, its decoys and "
                "its neutral twins (see docs/activations.md)."
            )
        if reading.reveal not in (None, reveal if isinstance(reveal, str) else tuple(reveal)):
            raise DialogError(f"{self.path} reveals {reading.reveal!r}, and the recipe {reveal!r}; read it again.")
        return reading


@dataclass(frozen=True)
class ReadingFolder:
    """The readings of a folder, in the order of their files' names, which name the dialogs."""

    path: Path
    skip_unreadable: bool = False

    def __iter__(self) -> Iterator[NamedDialog | Unreadable]:
        """Yield the dialogs; raise ``AuditLitError`` for the first file that is broken, unless those are skipped."""
        for path in self._paths():
            try:
                dialog = Reading.load(path).dialog
                if dialog is None:
                    raise DialogError(f"{path} does not hold its dialog, by which a report shows what was read.")
                yield NamedReading(path.stem, dialog, str(path), "activations", path=path)
            except AuditLitError as err:
                if not self.skip_unreadable:
                    raise
                yield Unreadable(path.stem, str(err), str(path))

    def _paths(self) -> list[Path]:
        if not (paths := sorted(self.path.glob(f"*{ENDING}"))):
            raise DialogError(f"{self.path} holds no file *{ENDING}; expected one for each dialog.")
        return paths

    def sha256(self) -> str:
        """Return a hash of all files, by which a run folder knows them again."""
        return hashlib.sha256("".join(sha256_of(path) for path in self._paths()).encode()).hexdigest()

    def model(self) -> dict[str, Any]:
        """Return what the files say of the model that was read, for a manifest; raise if they are of several."""
        models = [
            {"name": reading.activations.source, "revision": reading.revision, "weights": reading.fingerprint or ""}
            for reading in self._readable()
        ]
        if different := [model for model in models if model != models[0]]:
            raise ScanError(f"{self.path} holds readings of {models[0]} and of {different[0]}; expected one model.")
        return models[0]

    def require_twins(self, n_twins: int) -> None:
        """Raise ``ScanError`` if a file has fewer neutral twins than an audit compares each dialog with."""
        fewest = min(len(reading.twins) for reading in self._readable() if reading.twins is not None)
        if fewest < n_twins:
            raise ScanError(
                f"{self.path} holds a file with {fewest} neutral twins, and this audit needs {n_twins} for each "
                "dialog; give more dialogs or a larger alpha, or read more twins."
            )

    def _readable(self) -> Iterator[Reading]:
        for path in self._paths():
            try:
                yield Reading.load(path)
            except AuditLitError:  # it was reported by whoever iterated
                continue


def keep(folder: Path, name: str, place: int, reading: Reading, twins: Activations) -> None:
    """Write what an audit read of a dialog to a folder of readings."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise OutputError(f"{folder} cannot be used as a folder ({err.strerror}); name another.") from err
    stem = name if re.fullmatch(r"[\w-]{1,100}", name) else f"dialog-{place:06}"
    replace(reading, twins=twins).save(folder / f"{stem}{ENDING}")
