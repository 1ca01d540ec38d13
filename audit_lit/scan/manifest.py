"""The part of a manifest that a report shows, as a run folder holds it; what else stands there is kept as it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from audit_lit.chat.formats import NamedDialog, Unreadable
from audit_lit.errors import ScanError
from audit_lit.files.writing import dump_json
from audit_lit.scan.recipe import Question, ScanRecipe
from audit_lit.scan.records import DialogRecord, Nats, Record
from audit_lit.settings import explain

ROUNDING = 1e-3
"""Largest difference of figures that are computed from each other, and rounded, in nats per token."""


class _Named(BaseModel):
    name: str


class _Model(_Named):
    weights: str


class _Decoder(_Named):
    layers: tuple[int, ...] | None = None


class Manifest(BaseModel):
    """What the report of an audit depends on (see ``Measurement.manifest``)."""

    model_config = ConfigDict(frozen=True)

    target: _Model
    baseline: _Model
    decoder: _Decoder
    recipe: ScanRecipe
    questions: tuple[Question, ...] = Field(min_length=1)
    threshold: Nats
    n_dialogs: int = Field(ge=1)
    n_twins: int = Field(ge=1)
    seed: int

    @classmethod
    def of(cls, content: dict[str, Any]) -> Manifest:
        """Return the manifest that plain values describe; raise ``ScanError`` if they are of another shape."""
        try:
            return cls.model_validate_json(dump_json(content), strict=True)
        except ValidationError as err:
            raise ScanError(
                f"run.json of the audit is malformed ({explain(err)}); run scan in another folder."
            ) from err

    def checked(self, records: Callable[[], Iterator[Record]]) -> Iterator[Record]:
        """Yield records; raise ``ScanError`` for one that is not of this audit, or contradicts one before it."""
        before = _Before()
        for record in records():
            problem = self._problem(record) if isinstance(record, DialogRecord) else self._misplaced(record)
            if problem := problem or before.contradicted_by(record):
                raise _not_of_this_audit(record.id, problem)
            yield record

    def finished(
        self, records: Callable[[], Iterator[Record]], dialogs: Iterable[NamedDialog | Unreadable]
    ) -> set[str]:
        """Return the ids of the dialogs that have been read.

        Args:
            records: The records of a run folder.
            dialogs: The dialogs of the audit, in their order.

        Raises:
            ScanError: If a record is not of this audit: of none of its dialogs, of one with other messages, or in the
                place of another.
        """
        read = (record for record in self.checked(records) if isinstance(record, DialogRecord))
        kept = {record.id: (record.place, _hash_of(record.messages)) for record in read}
        unknown = set(kept)
        for place, dialog in enumerate(dialogs if kept else ()):
            recorded_place, recorded = kept.get(dialog.id, (place, None))
            if recorded_place != place:
                raise _not_of_this_audit(dialog.id, f"it is number {recorded_place}, and the dialog number {place}")
            if recorded and recorded != _hash_of(dialog.messages if isinstance(dialog, NamedDialog) else dialog.error):
                raise _not_of_this_audit(dialog.id, "it has other messages than the dialog")
            unknown.discard(dialog.id)
        if unknown:
            raise _not_of_this_audit(min(unknown), "no dialog has that id")
        return set(kept)

    def _misplaced(self, record: Record) -> str | None:
        return None if record.place < self.n_dialogs else f"it is number {record.place} of {self.n_dialogs} dialogs"

    def _problem(self, record: DialogRecord) -> str | None:
        compared = {question.id for question in self.questions if question.expected is not None}
        controls = {frozenset(answer.controls) for answer in record.answers.values()}
        if missing := {question.id for question in self.questions} - set(record.answers):
            return f"it has no answer to {min(missing)!r}"
        if missing := compared - set(record.expected) or compared - set(record.scores):
            return f"it does not compare {min(missing)!r} with its twins"
        if len(controls) != 1 or not min(controls):
            return "its answers have not the same controls"
        for question, answer in record.answers.items():
            if abs(answer.score - max(answer.controls.values()) - answer.lift) > ROUNDING:
                return f"the lift of its answer to {question!r} is not its score less the strongest control"
        if self.decoder.layers not in (None, record.layers):
            return f"it is of the layers {list(record.layers)}, and the audit reads {list(self.decoder.layers or ())}"
        if {len(record.scores[question]) for question in compared} - {1 + self.n_twins}:
            return f"it has not one score and those of {self.n_twins} twins"
        return self._misplaced(record)


@dataclass
class _Before:
    """What the records before one say: where each dialog stands, and what was found in it."""

    places: dict[str, int] = field(default_factory=dict)
    ids: dict[int, str] = field(default_factory=dict)
    read: dict[str, int] = field(default_factory=dict)

    def contradicted_by(self, record: Record) -> str | None:
        """Return what a record says that cannot be; a dialog that could not be read may be read later."""
        if (place := self.places.setdefault(record.id, record.place)) != record.place:
            return f"it is number {record.place}, and another record of the dialog is number {place}"
        if (other := self.ids.setdefault(record.place, record.id)) != record.id:
            return f"it stands in the place of dialog {other!r}, which is number {record.place} as well"
        content = hash(repr(record))
        if isinstance(record, DialogRecord) and self.read.setdefault(record.id, content) != content:
            return "there is another record of the dialog, which says something else"
        return None


def _hash_of(messages: object) -> str:
    return sha256(json.dumps(messages, sort_keys=True).encode()).hexdigest()


def _not_of_this_audit(dialog: str, problem: str) -> ScanError:
    return ScanError(
        f"the record of dialog {dialog!r} is not of this audit: {problem}. Delete its line in records-*.jsonl of the "
        "run folder, and scan again."
    )
