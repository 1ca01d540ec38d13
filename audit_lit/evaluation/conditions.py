"""The same dialogs as a decoder reads them, and as each control does, so that every figure has its rivals."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audit_lit.activations import Activations
from audit_lit.controls import N_NULL, null_activations
from audit_lit.decoder import Decoder
from audit_lit.evaluation.dialogs import Messages, read_dialogs, visible_text
from audit_lit.target import Target
from audit_lit.text_only import TextReader

READ = "activations"


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
    def of(cls, decoder: Decoder, target: Target, dialogs: Sequence[Messages], *, seed: int = 0) -> Conditions:
        """Read the dialogs once."""
        activations = read_dialogs(target, decoder.protocol, dialogs)
        noise = null_activations(activations, decoder.write, seed=seed)
        order = random.Random(seed).sample(range(len(dialogs)), len(dialogs))
        other = {row: order[rank - 1] for rank, row in enumerate(order)}  # a random cycle: nobody keeps its own
        return cls(
            decoder,
            activations,
            noise.rows(range(0, N_NULL * len(dialogs), N_NULL)),
            activations.rows([other[row] for row in range(len(dialogs))]),
            tuple(visible_text(target, dialog) for dialog in dialogs),
        )

    def scores(self, condition: str, row: int, question: str, answers: Sequence[str]) -> list[Tensor]:
        """Return the log-probability in nats of each token of each answer to a question about one dialog."""
        if condition == "text_only":
            return TextReader(self.decoder).logprob_choices(self.texts[row], question, answers)
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
            if condition == "text_only":
                texts = [self.texts[row] for row in rows]
                found += TextReader(self.decoder).answer(texts, asked, max_new_tokens=max_new_tokens)
                continue
            given, injected = self._given(condition).rows(rows), condition != "no_activation"
            found += self.decoder.answer(given, asked, max_new_tokens=max_new_tokens, injected=injected)
        return found

    def _given(self, condition: str) -> Activations:
        return {"null": self.null, "shuffled": self.shuffled}.get(condition, self.activations)
