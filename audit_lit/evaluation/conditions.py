"""The same dialogs as a decoder reads them, and as each control does, so that every figure has its rivals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audit_lit.activations import Activations
from audit_lit.answer import bootstrap_interval
from audit_lit.claims import either
from audit_lit.controls import controls_of, nothing
from audit_lit.decoder import Decoder
from audit_lit.dialog import render
from audit_lit.evaluation.dialogs import Messages, everyones_other, read_rendered
from audit_lit.evaluation.statistics import Values
from audit_lit.judge import READ
from audit_lit.target import Target
from audit_lit.text_only import text_readers


@dataclass(frozen=True)
class Conditions:
    """Dialogs under the condition ``activations`` and under every control.

    Attributes:
        decoder: What answers.
        activations: The dialogs' own.
        null: Random ones of the same shape and norms.
        shuffled: For each dialog, those of another.
        texts: What a reader of the text sees.
    """

    decoder: Decoder
    activations: Activations
    null: Activations
    shuffled: Activations
    texts: tuple[str, ...]

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        decoder: Decoder,
        target: Target,
        dialogs: Sequence[Messages],
        *,
        seed: int = 0,
        last_of_text: bool = False,
    ) -> Conditions:
        """Read the dialogs once: where the protocol reads, or the last token of each text alone."""
        rendered = [render(dialog, target.tokenizer) for dialog in dialogs]
        activations = read_rendered(target, decoder.protocol, rendered, [last_of_text] * len(rendered))
        return cls(
            decoder,
            activations,
            nothing("random", activations, decoder.write, seed=seed),
            activations.rows(everyones_other(len(dialogs), seed + 1)),  # not always the owner of the line
            tuple(dialog.visible_text for dialog in rendered),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The conditions: the activations first, then the decoder's controls."""
        return (READ, *controls_of(self.decoder))

    def scores(self, condition: str, row: int, question: str, answers: Sequence[str]) -> list[Tensor]:
        """Return the log-probability in nats of each token of each answer to a question about one dialog."""
        if reader := text_readers(self.decoder).get(condition):
            n = len(answers)
            return reader.logprob([self.texts[row]] * n, [question] * n, answers)
        given = self._given(condition).rows([row])
        return self.decoder.logprob_choices(given, question, answers, injected=condition != "no_activation")

    def totals(self, condition: str, row: int, question: str, answers: Sequence[str]) -> Values:
        """Return the log-probability in nats of each answer as a whole."""
        return np.array([float(score.sum()) for score in self.scores(condition, row, question, answers)])

    def evidence(self, condition: str, question: str, answers: Sequence[str]) -> Values:
        """Return the nats for each answer (columns) to one question about each dialog (rows).

        They are less the answer's marginal over the dialogs: what is said of all of them tells none from another.
        """
        # Without activations nothing depends on the dialog: one stands for all.
        rows = range(len(self.texts)) if condition != "no_activation" else [0] * len(self.texts)
        known = {row: self.totals(condition, row, question, answers) for row in set(rows)}
        raw = np.stack([known[row] for row in rows])
        return np.asarray(raw - either(raw))

    def answers(
        self, condition: str, questions: Sequence[str], *, max_new_tokens: int, batch_size: int = 16
    ) -> list[str]:
        """Return the likeliest answers, to one question about each dialog."""
        found: list[str] = []
        reader = text_readers(self.decoder).get(condition)
        for start in range(0, len(questions), batch_size):
            rows = range(start, min(start + batch_size, len(questions)))
            asked = [questions[row] for row in rows]
            if reader:
                texts = [self.texts[row] for row in rows]
                found += reader.answer(texts, asked, max_new_tokens=max_new_tokens)
                continue
            given, injected = self._given(condition).rows(rows), condition != "no_activation"
            found += self.decoder.answer(given, asked, max_new_tokens=max_new_tokens, injected=injected)
        return found

    def _given(self, condition: str) -> Activations:
        return {"null": self.null, "shuffled": self.shuffled}.get(condition, self.activations)


def beside(values: dict[str, Values], name: str = "value") -> dict[str, Any]:
    """Return the mean of ``activations``, under a name, beside its controls' and with the lift over the strongest."""
    controls = [control for control in values if control != READ]
    strongest = max(controls, key=lambda control: float(values[control].mean()))
    lift = values[READ] - values[strongest]
    return {
        name: float(values[READ].mean()),
        "interval": bootstrap_interval(values[READ]),
        "controls": {control: float(values[control].mean()) for control in controls},
        "strongest_control": strongest,
        "lift": float(lift.mean()),
        "lift_interval": bootstrap_interval(lift),
    }
