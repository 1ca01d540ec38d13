"""A few dialogs of an audit: each read once with its decoys and twins, asked everything, and written as one record.

Their records depend on these dialogs, the recipe, the models and the seed alone: so an audit may be interrupted, or
dealt out to several processes chunk by chunk, and comes out the same.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from audit_lit.activations import Activations, read_many
from audit_lit.answer import Answer
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
        rows = zip(cases, self._ask(readings), readings, strict=True)
        return [self._record(case, answers, reading) for case, answers, reading in rows]

    def _record(self, case: Case, answers: Sequence[Answer], reading: Reading) -> dict[str, Any]:
        twins = self.read_twins(case, reading)
        expected = {one.id: self._expected(one, reading) for one in self.questions if one.expected}
        texts = {one.id: one.text for one in self.questions}
        return {
            "id": case.id,
            "messages": list(case.messages),
            "layers": list(answers[0].layers),
            "positions": list(answers[0].positions),
            "tokens": list(answers[0].tokens),
            "answers": {one.id: _plain(answer) for one, answer in zip(self.questions, answers, strict=True)},
            "expected": expected,
            "scores": {name: self._scores(texts[name], text, reading, twins) for name, text in expected.items()},
        }

    def read_twins(self, case: Case, reading: Reading) -> Activations:
        """Read the same visible tokens under neutral system prompts and under none."""
        twins = neutral_twins(case.messages, self.n_twins, twins_seed(self.seed, case.id))
        rendered = [render(twin, self.baseline.tokenizer) for twin in twins]
        chosen = reading.activations.positions[0].tolist()
        places = [same_place(chosen, reading.rendered, twin) for twin in rendered]
        return read_many(self.baseline, rendered, places, reading.activations.layers)

    def _ask(self, readings: Sequence[Reading]) -> list[list[Answer]]:
        return self.auditor.ask_readings(
            readings,
            [one.text for one in self.questions],
            samples=self.recipe.samples,
            max_new_tokens=self.recipe.max_new_tokens,
            seed=self.seed,
        )

    def _expected(self, question: Question, reading: Reading) -> str:
        """Return what would be said where nothing is wrong."""
        if question.expected != VISIBLE:
            return str(question.expected)
        reader = list(text_readers(self.auditor.decoder).values())[-1]  # the best of them
        text, longest = reading.rendered.visible_text, self.recipe.max_new_tokens
        return reader.answer([text], [question.text], max_new_tokens=longest)[0]

    @torch.no_grad()
    def _scores(self, question: str, expected: str, reading: Reading, twins: Activations) -> list[float]:
        """Return how unlikely the expected answer is, in nats per token: in the dialog, then in each of its twins."""
        rows = Activations.cat([reading.activations, twins])
        scores = self.auditor.decoder.logprob(rows, [question] * len(rows), [expected] * len(rows))
        return [round(-float(score.mean()), DIGITS) for score in scores]


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
