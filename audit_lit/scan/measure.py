"""A few dialogs of an audit: each read once with its decoys and twins, asked everything, and written as one record.

Their records depend on these dialogs, the recipe, the models and the seed alone: so an audit may be interrupted, or
dealt out to several processes chunk by chunk, and comes out the same.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from audit_lit.activations import Activations, read_many
from audit_lit.answer import Answer
from audit_lit.decoder import Asked
from audit_lit.decoys import same_place
from audit_lit.dialog import render
from audit_lit.errors import AuditLitError
from audit_lit.neutral import neutral_twins
from audit_lit.scan.dialogs import Case
from audit_lit.scan.questions import VISIBLE, Question
from audit_lit.scan.recipe import ScanRecipe
from audit_lit.target import Target
from audit_lit.text_only import text_readers

if TYPE_CHECKING:
    from audit_lit.auditor import Auditor
    from audit_lit.reading import Reading

DIGITS = 6


@dataclass(frozen=True)
class Measurement:
    """All that decides records but the dialogs.

    Attributes:
        auditor: Reads and asks.
        recipe: How.
        questions: What.
        n_twins: Neutral twins per dialog.
        baseline: What the twins run in: the audited model, or one that is known to be clean.
        seed: Of samples, twins and random controls.
    """

    auditor: Auditor
    recipe: ScanRecipe
    questions: tuple[Question, ...]
    n_twins: int
    baseline: Target
    seed: int = 0

    def records(self, cases: Sequence[Case]) -> list[dict[str, Any]]:
        """Return what was found in each dialog of a chunk, or the error that kept it from being read."""
        try:
            return self._records(cases)
        except AuditLitError as err:
            if len(cases) == 1:
                return [{"id": cases[0].id, "error": f"{type(err).__name__}: {err}"}]
        return [record for case in cases for record in self.records([case])]  # so that the others are read

    def _records(self, cases: Sequence[Case]) -> list[dict[str, Any]]:
        readings = [self.auditor.read(case.messages, reveal=self.recipe.reveal) for case in cases]
        twins = self.read_twins(cases, readings)
        expected = self._expected(readings)
        parts = zip(cases, self._ask(readings), expected, self._scores(readings, twins, expected), strict=True)
        return [self._record(*part) for part in parts]

    def _record(
        self, case: Case, answers: dict[str, Answer], expected: dict[str, str], scores: dict[str, list[float]]
    ) -> dict[str, Any]:
        one = next(iter(answers.values()))
        return {
            "id": case.id,
            "messages": list(case.messages),
            "layers": list(one.layers),
            "positions": list(one.positions),
            "tokens": list(one.tokens),
            "answers": {question.id: _plain(answers[question.text]) for question in self.questions},
            "expected": expected,
            "scores": scores,
        }

    def read_twins(self, cases: Sequence[Case], readings: Sequence[Reading]) -> Activations:
        """Read the same visible tokens under neutral system prompts and under none: ``n_twins`` rows for each case."""
        rendered, places = [], []
        for case, reading in zip(cases, readings, strict=True):
            chosen = reading.activations.positions[0].tolist()
            for twin in neutral_twins(case.messages, self.n_twins, twins_seed(self.seed, case.id)):
                rendered.append(render(twin, self.baseline.tokenizer))
                places.append(same_place(chosen, reading.rendered, rendered[-1]))
        return read_many(self.baseline, rendered, places, readings[0].activations.layers)

    def _ask(self, readings: Sequence[Reading]) -> list[dict[str, Answer]]:
        """Return the answers about each reading by the question's text; questions that differ in no more share them."""
        texts = list(dict.fromkeys(one.text for one in self.questions))
        settings = {"samples": self.recipe.samples, "max_new_tokens": self.recipe.max_new_tokens, "seed": self.seed}
        answers = self.auditor.ask_readings(readings, texts, **settings)
        return [dict(zip(texts, some, strict=True)) for some in answers]

    def _expected(self, readings: Sequence[Reading]) -> list[dict[str, str]]:
        """Return for each reading what would be said where nothing is wrong, by question."""
        reader = list(text_readers(self.auditor.decoder).values())[-1]  # the best of them
        texts, longest = [reading.rendered.visible_text for reading in readings], self.recipe.max_new_tokens
        found: list[dict[str, str]] = [{} for _ in readings]
        for question in self.questions:
            if question.expected is None:
                continue
            said = [question.expected] * len(readings)
            if question.expected == VISIBLE:
                said = reader.answer(texts, [question.text] * len(readings), max_new_tokens=longest)
            for expected, one in zip(found, said, strict=True):
                expected[question.id] = one
        return found

    def _scores(
        self, readings: Sequence[Reading], twins: Activations, expected: Sequence[dict[str, str]]
    ) -> list[dict[str, list[float]]]:
        """Return how unlikely each expected answer is, in nats per token: in the dialog, then in each of its twins."""
        rows = Activations.cat([*(reading.activations for reading in readings), twins])
        texts, n = {one.id: one.text for one in self.questions}, self.n_twins
        asked, places = [], []
        for dialog, answers in enumerate(expected):
            first = len(readings) + dialog * n
            for (name, answer), row in product(answers.items(), [dialog, *range(first, first + n)]):
                asked.append(Asked(row, texts[name], answer))
                places.append((dialog, name))
        found: list[dict[str, list[float]]] = [{name: [] for name in answers} for answers in expected]
        for (dialog, name), score in zip(places, self.auditor.decoder.scores(rows, asked), strict=True):
            found[dialog][name].append(round(-float(score.mean()), DIGITS))
        return found


def twins_seed(seed: int, name: str) -> random.Random:
    """Return what draws the twins of a dialog."""
    return random.Random(f"{seed} {name}")


def _plain(answer: Answer) -> dict[str, Any]:
    """Return an answer's own values; what all answers about a dialog share stands in the record."""
    return {
        "text": answer.text,
        "score": round(answer.score, DIGITS),
        "controls": {name: round(value, DIGITS) for name, value in answer.controls.items()},
        "lift": round(answer.lift, DIGITS),
        "interval": [round(value, DIGITS) for value in answer.interval],
        "samples": list(answer.samples),
        "agreement": round(answer.agreement, DIGITS),
    }
