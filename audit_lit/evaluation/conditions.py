"""The same dialogs under every condition: as the decoder reads them, and as each control does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audit_lit.answers.controls import ACTIVATIONS, controls_of, null_input
from audit_lit.chat.rendering import render
from audit_lit.data.rows import Messages
from audit_lit.decoder.decoder import Decoder, text_baselines
from audit_lit.evaluation.dialogs import derangement, read_dialogs
from audit_lit.models.activations import Activations
from audit_lit.models.target import Target
from audit_lit.statistics.intervals import Values, bootstrap_interval
from audit_lit.statistics.scores import log_mean_exp

NO_ACTIVATION = "no_activation"
"""The condition in which nothing depends on the dialog."""


@dataclass(frozen=True)
class Conditions:
    """Dialogs under the condition ``activations`` and under every control; text baselines get the visible texts."""

    decoder: Decoder
    activations: Activations
    null: Activations
    shuffled: Activations
    texts: tuple[str, ...]

    @classmethod
    @torch.no_grad()
    def of(
        cls, decoder: Decoder, target: Target, dialogs: Sequence[Messages], *, seed: int = 0, last_of_text: bool = False
    ) -> Conditions:
        """Read the dialogs once: where the decoder reads, or at the last token of each text alone."""
        activations = read_dialogs(target, decoder.config, dialogs, [last_of_text] * len(dialogs))
        return cls(
            decoder,
            activations,
            null_input("random", activations, decoder.write, seed=seed),
            activations.rows(derangement(len(dialogs), seed + 1)),  # another order than that of the user lines
            tuple(render(dialog, target.tokenizer).visible_text for dialog in dialogs),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The conditions: the activations first, then the decoder's controls."""
        return (ACTIVATIONS, *controls_of(self.decoder))

    def scores(self, condition: str, row: int, question: str, answers: Sequence[str]) -> list[Tensor]:
        """Return the log-probability in nats of each token of each answer to a question about one dialog."""
        if baseline := text_baselines(self.decoder).get(condition):
            return baseline.logprob([self.texts[row]] * len(answers), [question] * len(answers), answers)
        activations = self._activations(condition).rows([row])
        return self.decoder.score_choices(activations, question, answers, injected=condition != NO_ACTIVATION)

    def totals(self, condition: str, row: int, question: str, answers: Sequence[str]) -> Values:
        """Return the log-probability in nats of each answer as a whole."""
        return np.array([float(score.sum()) for score in self.scores(condition, row, question, answers)])

    def evidence(self, condition: str, question: str, answers: Sequence[str]) -> Values:
        """Return the nats for each answer (columns) to one question about each dialog (rows).

        The answer's marginal over the dialogs is subtracted: what fits all of them does not tell them apart.
        """
        rows = range(1 if condition == NO_ACTIVATION else len(self.texts))
        totals = [self.totals(condition, row, question, answers) for row in rows]
        nats = np.resize(totals, (len(self.texts), len(answers)))
        return np.asarray(nats - log_mean_exp(nats))

    def answers(
        self, condition: str, questions: Sequence[str], *, max_new_tokens: int, batch_size: int = 16
    ) -> list[str]:
        """Return the likeliest answers, to one question about each dialog."""
        answers: list[str] = []
        baseline, injected = text_baselines(self.decoder).get(condition), condition != NO_ACTIVATION
        for start in range(0, len(questions), batch_size):
            rows = range(start, min(start + batch_size, len(questions)))
            asked = questions[start : rows.stop]
            if baseline:
                answers += baseline.answer(self.texts[start : rows.stop], asked, max_new_tokens=max_new_tokens)
            else:
                activations = self._activations(condition).rows(rows)
                answers += self.decoder.answer(activations, asked, max_new_tokens=max_new_tokens, injected=injected)
        return answers

    def _activations(self, condition: str) -> Activations:
        return {"null": self.null, "shuffled": self.shuffled}.get(condition, self.activations)


def beside(values: dict[str, Values], name: str = "value") -> dict[str, Any]:
    """Return the mean of ``activations``, under a name, beside its controls' and with the lift over the strongest."""
    controls = [control for control in values if control != ACTIVATIONS]
    strongest = max(controls, key=lambda control: float(values[control].mean()))
    lift = values[ACTIVATIONS] - values[strongest]
    return {
        name: float(values[ACTIVATIONS].mean()),
        "interval": bootstrap_interval(values[ACTIVATIONS]),
        "controls": {control: float(values[control].mean()) for control in controls},
        "strongest_control": strongest,
        "lift": float(lift.mean()),
        "lift_interval": bootstrap_interval(lift),
    }
