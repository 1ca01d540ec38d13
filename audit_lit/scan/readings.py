"""Audit activations of files: a folder of readings, one for each dialog, in which nothing has to run."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from audit_lit.answers.answer import needs
from audit_lit.answers.controls import missing_controls, n_distinct
from audit_lit.answers.reading import Reading
from audit_lit.answers.session import Session
from audit_lit.chat.decoys import NEUTRAL
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
            DialogError: If it does not allow all controls, lacks neutral twins or has copies for them, or reveals
                something else.
        """
        reading = Reading.load(self.path)
        if reading.reveal not in (None, reveal if isinstance(reveal, str) else tuple(reveal)):
            raise DialogError(f"{self.path} reveals {reading.reveal!r}, and the recipe {reveal!r}; read it again.")
        reading = session.read(reading)
        missing = missing_controls(session.decoder, reading)
        if missing or not reading.twins:
            lacks = [needs(missing, ["shuffled"] if reading.decoys else [])] if missing else []
            lacks += [] if reading.twins else ["the twins are missing"]
            raise DialogError(
                f"{self.path} cannot be judged: {'; '.join(lacks)}. Read it again with that; a scan takes files with "
                "the dialog, its decoys and its neutral twins (see docs/activations.md)."
            )
        self._check_twins(reading)
        return reading

    def _check_twins(self, reading: Reading) -> None:
        """Refuse copies for twins; a few are equal, since neutral prompts that are short are drawn from few."""
        n_twins, n_others = len(reading.twins or ()), n_distinct(reading.twins)
        if 2 * n_others < min(n_twins, len(NEUTRAL)):
            raise DialogError(
                f"{self.path} has {n_twins} neutral twins, of which only {n_others} differ; expected each to be read "
                "after a neutral prompt of its own. Read them again."
            )
        if reading.twins and reading.decoys and {*reading.twins.hashes()} & {*reading.decoys.hashes()}:
            raise DialogError(
                f"{self.path} has a neutral twin that is a copy of a decoy; expected twins that were read after "
                "neutral prompts. Read them again."
            )


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
        if not (paths := sorted(path for path in self.path.iterdir() if path.suffix.lower() == ENDING)):
            raise DialogError(f"{self.path} holds no file *{ENDING}; expected one for each dialog.")
        return paths

    def sha256(self) -> str:
        """Return a hash of all files, by which a run folder knows them again."""
        return hashlib.sha256("".join(sha256_of(path) for path in self._paths()).encode()).hexdigest()

    def model(self) -> dict[str, Any]:
        """Return what the files say of the model that was read, for a manifest; raise if they are of several."""
        models = [model for model, _ in self._facts]
        if different := [model for model in models if model != models[0]]:
            raise ScanError(f"{self.path} holds readings of {models[0]} and of {different[0]}; expected one model.")
        return models[0]

    def n_twins(self, wanted: int, least: int) -> int:
        """Return the number of neutral twins that each dialog is compared with.

        Args:
            wanted: As many as the dialogs that can be read need. The files may have fewer, if some cannot be read.
            least: As many as all dialogs need, if all could be read.

        Raises:
            ScanError: If a file has fewer than the least.
        """
        fewest = min(n_twins for _, n_twins in self._facts if n_twins)
        if fewest < least:
            raise ScanError(
                f"{self.path} holds a file with {fewest} neutral twins, and this audit needs {least} for each dialog; "
                "give more dialogs or a larger alpha, or read more twins."
            )
        return min(wanted, fewest)

    @cached_property
    def _facts(self) -> list[tuple[dict[str, Any], int]]:
        """What each file that can be read says of its model, and its number of twins; all are read once for both."""
        facts = []
        for path in self._paths():
            try:
                reading = Reading.load(path)
            except AuditLitError:  # it was reported by whoever iterated
                continue
            model = {
                "name": reading.activations.source,
                "revision": reading.revision,
                "weights": reading.fingerprint or "",
            }
            facts.append((model, len(reading.twins or ())))
        return facts


def keep(folder: Path, name: str, place: int, reading: Reading, twins: Activations) -> None:
    """Write what an audit read of a dialog to a folder of readings."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise OutputError(f"{folder} cannot be used as a folder ({err.strerror}); name another.") from err
    stem = name if re.fullmatch(r"[\w-]{1,100}", name) else f"dialog-{place:06}"
    replace(reading, twins=twins).save(folder / f"{stem}{ENDING}")
