"""The same dialogs as a decoder reads them, and as each control does, so that every figure has its rivals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audit_lit.answers.control_scores import ACTIVATIONS
from audit_lit.answers.controls import controls_of, null_input
from audit_lit.chat.rendering import render
from audit_lit.decoder.decoder import Decoder, text_baselines
from audit_lit.evaluation.dialogs import Messages, derangement, read_rendered
from audit_lit.models.activations import Activations
from audit_lit.models.target import Target
from audit_lit.statistics.calibration import log_mean_exp
from audit_lit.statistics.intervals import bootstrap_interval
from audit_lit.statistics.ranking import Values


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
        activations = read_rendered(target, decoder.config, rendered, [last_of_text] * len(rendered))
        return cls(
            decoder,
            activations,
            null_input("random", activations, decoder.write, seed=seed),
            activations.rows(derangement(len(dialogs), seed + 1)),  # not always the owner of the line
            tuple(dialog.visible_text for dialog in rendered),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The conditions: the activations first, then the decoder's controls."""
        return (ACTIVATIONS, *controls_of(self.decoder))

    def scores(self, condition: str, row: int, question: str, answers: Sequence[str]) -> list[Tensor]:
        """Return the log-probability in nats of each token of each answer to a question about one dialog."""
        if reader := text_baselines(self.decoder).get(condition):
            n = len(answers)
            return reader.logprob([self.texts[row]] * n, [question] * n, answers)
        given = self._given(condition).rows([row])
        return self.decoder.score_choices(given, question, answers, injected=condition != "no_activation")

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
        return np.asarray(raw - log_mean_exp(raw))

    def answers(
        self, condition: str, questions: Sequence[str], *, max_new_tokens: int, batch_size: int = 16
    ) -> list[str]:
        """Return the likeliest answers, to one question about each dialog."""
        found: list[str] = []
        reader = text_baselines(self.decoder).get(condition)
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
