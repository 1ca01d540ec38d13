"""The part of a manifest that a report shows, as a run folder holds it; what else stands there is kept as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from audit_lit.errors import ScanError
from audit_lit.files.writing import dump_json
from audit_lit.scan.recipe import Question, ScanRecipe
from audit_lit.scan.records import DialogRecord, Nats, Record
from audit_lit.settings import explain


class _Named(BaseModel):
    name: str


class _Model(_Named):
    weights: str


class Manifest(BaseModel):
    """What the report of an audit depends on (see ``Measurement.manifest``)."""

    model_config = ConfigDict(frozen=True)

    target: _Model
    baseline: _Model
    decoder: _Named
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
        """Yield records; raise ``ScanError`` for one that is not of this audit."""
        for record in records():
            problem = self._problem(record) if isinstance(record, DialogRecord) else self._misplaced(record)
            if problem:
                raise ScanError(
                    f"the record of dialog {record.id!r} is not of this audit: {problem}. Delete it, and scan again."
                )
            yield record

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
        if {len(record.scores[question]) for question in compared} - {1 + self.n_twins}:
            return f"it has not one score and those of {self.n_twins} twins"
        return self._misplaced(record)
