"""Measure a few dialogs of an audit: read each once with its decoys and twins, ask everything, and make one record.

The records depend on these dialogs, the recipe, the models and the seed alone. So an audit may be interrupted, or dealt
out to several processes chunk by chunk, and comes out the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

from audit_lit.answers.ask import ask
from audit_lit.answers.reading import Reading
from audit_lit.answers.session import Session
from audit_lit.chat.decoys import neutral_twins, twins_seed
from audit_lit.chat.formats import NamedDialog, Unreadable
from audit_lit.chat.positions import aligned_positions
from audit_lit.decoder.answering import Candidate
from audit_lit.decoder.calibration import highest
from audit_lit.decoder.decoder import text_baselines
from audit_lit.errors import AuditLitError, DialogError
from audit_lit.models.activations import Activations
from audit_lit.models.capture import capture_dialogs
from audit_lit.models.generation import Sampling
from audit_lit.models.loading import weights_fingerprint
from audit_lit.models.target import Target
from audit_lit.scan.readings import NamedReading, keep
from audit_lit.scan.recipe import VISIBLE, Question, ScanRecipe
from audit_lit.scan.records import DIGITS, DialogRecord, Record, RecordedAnswer, UnreadDialog


@dataclass(frozen=True)
class Measurement:
    """Everything that decides records, except the dialogs."""

    session: Session
    recipe: ScanRecipe
    questions: tuple[Question, ...]
    n_twins: int
    baseline: Target | None
    """The model that the twins run in: the audited one, or one that is known to be clean. None if files are read."""
    seed: int = 0
    audited: dict[str, Any] | None = None
    """What files say of the model that was read, in place of a target."""
    kept_in: Path | None = None
    """Folder to write what is read to; None keeps nothing."""

    def manifest(self, n_dialogs: int, dialogs_digest: str) -> dict[str, Any]:
        """Return everything that the report depends on; a run folder goes on only where all of it is the same."""
        import torch
        import transformers

        decoder = self.session.decoder
        target = self.audited or _described(self.session.target)
        contrast = self.session.contrast
        clean = contrast.baseline if contrast else self.baseline
        baseline = target if clean is None else _described(clean)
        config, text_baseline = decoder.config, decoder.text_baseline
        record, threshold = self.session.calibration, needed_lift(self.session, self.recipe)
        is_measured_here = record is not None and record.lift_threshold == threshold
        return {
            "versions": {
                "audit_lit": version("audit-lit"),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "transformer_lens": version("transformer-lens"),
            },
            "target": target,
            "baseline": {"name": baseline["name"], "weights": baseline["weights"]},
            "decoder": {
                "name": config.name,
                "weights": weights_fingerprint(decoder.model),
                "rival": weights_fingerprint(text_baseline.model) if text_baseline else None,
                "protocol": hashlib.sha256(json.dumps(config.to_dict()).encode()).hexdigest()[:16],
                "training_data": config.training_data,
                "layers": list(config.read_layers),
            },
            "dtype": str(next(decoder.model.parameters()).dtype),
            "recipe": self.recipe.model_dump(mode="json"),
            "questions": [question.model_dump(mode="json") for question in self.questions],
            "threshold": threshold,
            "calibration": record.model_dump(mode="json") if record and is_measured_here else None,
            **({"library": contrast.library.sha256()} if contrast and contrast.library else {}),
            "n_dialogs": n_dialogs,
            "dialogs": dialogs_digest,
            "n_twins": self.n_twins,
            "seed": self.seed,
        }

    def records(self, dialogs: Sequence[NamedDialog | Unreadable], first: int) -> list[Record]:
        """Return the record of each dialog of a chunk that begins at place ``first``, or why it could not be read."""
        try:
            return self._records([_readable(dialog) for dialog in dialogs], first)
        except AuditLitError as err:
            if len(dialogs) == 1:
                return [UnreadDialog(first, dialogs[0].id, f"{type(err).__name__}: {err}")]
        # One by one, so that the others are read.
        return [record for row, dialog in enumerate(dialogs) for record in self.records([dialog], first + row)]

    def _records(self, dialogs: Sequence[NamedDialog], first: int) -> list[Record]:
        readings = [self._read(dialog) for dialog in dialogs]
        twins, expected = self._read_twins(dialogs, readings), self._expected(readings)
        for row, (dialog, reading) in enumerate(zip(dialogs, readings, strict=True) if self.kept_in else ()):
            of_dialog = twins.rows(range(row * self.n_twins, (row + 1) * self.n_twins))
            keep(self.kept_in or Path(), dialog.id, first + row, reading, of_dialog)
        scores = self._scores(readings, twins, expected)
        texts = list(dict.fromkeys(question.text for question in self.questions))  # each is asked once
        sampling = Sampling(self.recipe.max_new_tokens, samples=self.recipe.samples, seed=self.seed)
        records: list[Record] = []
        for row, answers in enumerate(ask(self.session, readings, texts, sampling)):
            recorded = {answer.question: RecordedAnswer.of(answer) for answer in answers}
            record = DialogRecord(
                place=first + row,
                id=dialogs[row].id,
                messages=dialogs[row].messages,
                layers=answers[0].layers,
                positions=answers[0].positions,
                tokens=answers[0].tokens,
                answers={question.id: recorded[question.text] for question in self.questions},
                expected=expected[row],
                scores=scores[row],
            )
            records.append(record)
        return records

    def _read(self, dialog: NamedDialog) -> Reading:
        if isinstance(dialog, NamedReading):
            return dialog.read(self.session, self.recipe.reveal)
        return self.session.read(dialog.messages, self.recipe.reveal)

    def _read_twins(self, dialogs: Sequence[NamedDialog], readings: Sequence[Reading]) -> Activations:
        """Read the same visible tokens under neutral system prompts and under none: ``n_twins`` rows each."""
        stored = [reading.twins.rows(range(self.n_twins)) for reading in readings if reading.twins is not None]
        if self.baseline is None:
            return Activations.cat(stored)
        rendered, positions = [], []
        for dialog, reading in zip(dialogs, readings, strict=True):
            config = self.session.decoder.config
            shown = reading.rendered or config.render(dialog.messages, self.session.target.tokenizer)
            for twin in neutral_twins(dialog.messages, self.n_twins, twins_seed(self.seed, dialog.id)):
                rendered.append(config.render(twin, self.baseline.tokenizer))
                positions.append(aligned_positions(reading.positions, shown, rendered[-1]))
        return capture_dialogs(self.baseline, rendered, positions, readings[0].activations.layers)

    def _expected(self, readings: Sequence[Reading]) -> list[dict[str, str]]:
        """Return for each reading the answer where nothing is wrong, by the question's id."""
        strongest = list(text_baselines(self.session.decoder).values())[-1]
        texts, max_new_tokens = [str(reading.visible_text) for reading in readings], self.recipe.max_new_tokens
        expected: list[dict[str, str]] = [{} for _ in readings]
        for question in self.questions:
            if question.expected is None:
                continue
            answers = [question.expected] * len(readings)
            if question.expected == VISIBLE:
                answers = strongest.answer(texts, [question.text] * len(readings), max_new_tokens=max_new_tokens)
            for row, answer in zip(expected, answers, strict=True):
                row[question.id] = answer
        return expected

    def _scores(
        self, readings: Sequence[Reading], twins: Activations, expected: Sequence[dict[str, str]]
    ) -> list[dict[str, list[float]]]:
        """Return how unlikely each expected answer is (see ``DialogRecord.scores``)."""
        rows = Activations.cat([*(reading.activations for reading in readings), twins])
        texts = {question.id: question.text for question in self.questions}
        candidates, places = [], []
        for dialog, answers in enumerate(expected):
            first = len(readings) + dialog * self.n_twins
            for (question, answer), row in product(answers.items(), [dialog, *range(first, first + self.n_twins)]):
                candidates.append(Candidate(row, texts[question], answer))
                places.append((dialog, question))
        scores: list[dict[str, list[float]]] = [{question: [] for question in answers} for answers in expected]
        nats = self.session.decoder.score_candidates(rows, candidates)
        for (dialog, question), score in zip(places, nats, strict=True):
            scores[dialog][question].append(round(-float(score.mean()), DIGITS))
        return scores


def _described(target: Target) -> dict[str, Any]:
    return {"name": target.name, "revision": target.revision, "weights": weights_fingerprint(target.model)}


def _readable(dialog: NamedDialog | Unreadable) -> NamedDialog:
    if isinstance(dialog, Unreadable):
        raise DialogError(dialog.error)
    return dialog


def needed_lift(session: Session, recipe: ScanRecipe) -> float | None:
    """Return the lift that counts as support (see ``highest``); None if no threshold is known."""
    return highest(session.decoder.config.lift_threshold, recipe.min_lift)
