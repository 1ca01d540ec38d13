"""The same dialogs as a decoder reads them, and as each control does, so that every figure has its rivals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from audit_lit.activations import Activations, read_many
from audit_lit.answer import bootstrap_interval
from audit_lit.controls import N_NULL, controls_of, null_activations
from audit_lit.decoder import Decoder
from audit_lit.dialog import render
from audit_lit.evaluation.dialogs import Messages, everyones_other, read_rendered
from audit_lit.evaluation.statistics import Values
from audit_lit.target import Target
from audit_lit.text_only import TextReader

READ, TEXT = "activations", ("text_only", "text_trained")


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
        if last_of_text:
            ends = [(dialog.turns[-1].text_end - 1,) for dialog in rendered]
            activations = read_many(target, rendered, ends, decoder.protocol.read_layers)
        else:
            activations = read_rendered(target, decoder.protocol, rendered)
        noise = null_activations(activations, decoder.write, seed=seed)
        return cls(
            decoder,
            activations,
            noise.rows(range(0, N_NULL * len(dialogs), N_NULL)),
            activations.rows(everyones_other(len(dialogs), seed + 1)),  # not always the owner of the line
            tuple(dialog.visible_text for dialog in rendered),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The conditions: the activations first, then the decoder's controls."""
        return (READ, *controls_of(self.decoder))

    def scores(self, condition: str, row: int, question: str, answers: Sequence[str]) -> list[Tensor]:
        """Return the log-probability in nats of each token of each answer to a question about one dialog."""
        if condition in TEXT:
            return self._reader(condition).logprob_choices(self.texts[row], question, answers)
        given = self._given(condition).rows([row])
        return self.decoder.logprob_choices(given, question, answers, injected=condition != "no_activation")

    def answers(
        self, condition: str, questions: Sequence[str], *, max_new_tokens: int, batch_size: int = 16
    ) -> list[str]:
        """Return the likeliest answers, to one question about each dialog."""
        found: list[str] = []
        for start in range(0, len(questions), batch_size):
            rows = range(start, min(start + batch_size, len(questions)))
            asked = [questions[row] for row in rows]
            if condition in TEXT:
                texts = [self.texts[row] for row in rows]
                found += self._reader(condition).answer(texts, asked, max_new_tokens=max_new_tokens)
                continue
            given, injected = self._given(condition).rows(rows), condition != "no_activation"
            found += self.decoder.answer(given, asked, max_new_tokens=max_new_tokens, injected=injected)
        return found

    def _reader(self, condition: str) -> TextReader:
        return TextReader((condition == "text_trained" and self.decoder.rival) or self.decoder)

    def _given(self, condition: str) -> Activations:
        return {"null": self.null, "shuffled": self.shuffled}.get(condition, self.activations)


def beside(values: dict[str, Values], name: str = "value") -> dict[str, Any]:
    """Return the mean of ``activations``, under a name, beside its controls' and with the lift over the strongest."""
    controls = [name for name in values if name != READ]
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
