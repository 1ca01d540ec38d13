"""Measure a few dialogs of an audit: read each once with its decoys and twins, ask everything, and make one record.

The records depend on these dialogs, the recipe, the models and the seed alone. So an audit may be interrupted, or dealt
out to several processes chunk by chunk, and comes out the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from audit_lit.answers.answer import Answer
from audit_lit.answers.ask import ask
from audit_lit.answers.session import Reading, Session
from audit_lit.chat.alignment import aligned_positions
from audit_lit.chat.formats import NamedDialog
from audit_lit.chat.neutral import neutral_twins, twins_seed
from audit_lit.chat.rendering import render
from audit_lit.decoder.decoder import Candidate, text_baselines
from audit_lit.errors import AuditLitError
from audit_lit.models.activations import Activations
from audit_lit.models.capture import capture_dialogs
from audit_lit.models.generation import Sampling
from audit_lit.models.target import Target
from audit_lit.scan.questions import VISIBLE, Question
from audit_lit.scan.recipe import ScanRecipe
from audit_lit.scan.records import DIGITS, DialogRecord, Record, RecordedAnswer, UnreadDialog


@dataclass(frozen=True)
class Measurement:
    """Everything that decides records, except the dialogs.

    Attributes:
        session: Reads and asks.
        recipe: Says how.
        questions: What is asked.
        n_twins: Neutral twins per dialog.
        baseline: The model that the twins run in: the audited one, or one that is known to be clean.
        seed: Of samples, twins and random controls.
    """

    session: Session
    recipe: ScanRecipe
    questions: tuple[Question, ...]
    n_twins: int
    baseline: Target
    seed: int = 0

    def records(self, dialogs: Sequence[NamedDialog], first: int) -> list[Record]:
        """Return what was found in each dialog of a chunk, or the error that kept it from being read.

        Args:
            dialogs: The chunk.
            first: Number of its first dialog in the audit.
        """
        try:
            return list(self._records(dialogs, first))
        except AuditLitError as err:
            if len(dialogs) == 1:
                return [UnreadDialog(first, dialogs[0].id, f"{type(err).__name__}: {err}")]
        alone = (self.records([dialog], first + place) for place, dialog in enumerate(dialogs))
        return [record for records in alone for record in records]  # so that the others are read

    def _records(self, dialogs: Sequence[NamedDialog], first: int) -> list[DialogRecord]:
        readings = [self.session.read(dialog.messages, self.recipe.reveal) for dialog in dialogs]
        twins = self.read_twins(dialogs, readings)
        expected = self._expected(readings)
        scores = self._scores(readings, twins, expected)
        parts = zip(dialogs, self._answers(readings), expected, scores, strict=True)
        return [self._record(first + place, *part) for place, part in enumerate(parts)]

    def _record(
        self,
        place: int,
        dialog: NamedDialog,
        answers: dict[str, Answer],
        expected: dict[str, str],
        scores: dict[str, list[float]],
    ) -> DialogRecord:
        any_answer = next(iter(answers.values()))
        return DialogRecord(
            place=place,
            id=dialog.id,
            messages=dialog.messages,
            layers=any_answer.layers,
            positions=any_answer.positions,
            tokens=any_answer.tokens,
            answers={question.id: RecordedAnswer.of(answers[question.text]) for question in self.questions},
            expected=expected,
            scores=scores,
        )

    def read_twins(self, dialogs: Sequence[NamedDialog], readings: Sequence[Reading]) -> Activations:
        """Read the same visible tokens under neutral system prompts and under none: ``n_twins`` rows each."""
        rendered, positions = [], []
        for dialog, reading in zip(dialogs, readings, strict=True):
            revealed = reading.activations.positions[0].tolist()
            for twin in neutral_twins(dialog.messages, self.n_twins, twins_seed(self.seed, dialog.id)):
                rendered.append(render(twin, self.baseline.tokenizer))
                positions.append(aligned_positions(revealed, reading.rendered, rendered[-1]))
        return capture_dialogs(self.baseline, rendered, positions, readings[0].activations.layers)

    def _answers(self, readings: Sequence[Reading]) -> list[dict[str, Answer]]:
        """Return the answers about each reading by the question's text; questions with the same text share them."""
        texts = list(dict.fromkeys(question.text for question in self.questions))
        sampling = Sampling(self.recipe.max_new_tokens, samples=self.recipe.samples, seed=self.seed)
        return [dict(zip(texts, answers, strict=True)) for answers in ask(self.session, readings, texts, sampling)]

    def _expected(self, readings: Sequence[Reading]) -> list[dict[str, str]]:
        """Return for each reading what the answer would be where nothing is wrong, by question."""
        expected: list[dict[str, str]] = [{} for _ in readings]
        for question in self.questions:
            if question.expected is not None:
                for by_question, answer in zip(expected, self._expected_answers(question, readings), strict=True):
                    by_question[question.id] = answer
        return expected

    def _expected_answers(self, question: Question, readings: Sequence[Reading]) -> list[str]:
        if question.expected != VISIBLE:
            return [str(question.expected)] * len(readings)
        strongest = list(text_baselines(self.session.decoder).values())[-1]
        texts = [reading.rendered.visible_text for reading in readings]
        return strongest.answer(texts, [question.text] * len(readings), max_new_tokens=self.recipe.max_new_tokens)

    def _scores(
        self, readings: Sequence[Reading], twins: Activations, expected: Sequence[dict[str, str]]
    ) -> list[dict[str, list[float]]]:
        """Return how unlikely each expected answer is, in nats per token: in the dialog, then in each of its twins."""
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
