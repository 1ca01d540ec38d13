"""The auditor: reads a target's activations once, asks a decoder about them, and scores each answer under controls.

1. The dialog runs through the target once, and once more under decoys (other hidden prompts, same visible turns).
2. The decoder sees the activations of revealed, visible positions only, and answers each question.
3. Each answer is scored again with empty slots, random activations, the decoys' activations, and from the text alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np
import numpy.typing as npt
import torch

from audit_lit.activations import Activations, read
from audit_lit.answer import Answer, agreement, bootstrap_interval
from audit_lit.claims import Claim, weigh
from audit_lit.controls import null_activations
from audit_lit.decoder import Decoder
from audit_lit.decoys import decoy_dialogs, same_place
from audit_lit.dialog import Dialog, Rendered, Reveal, render
from audit_lit.errors import DialogError
from audit_lit.target import Target
from audit_lit.text_only import text_readers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from audit_lit.hooks import HookedModel


@dataclass(frozen=True)
class Reading:
    """One dialog's activations, beside those of the same visible tokens after other hidden prompts."""

    rendered: Rendered
    activations: Activations
    decoys: Activations


class Auditor:
    """Asks a decoder about a target's activations.

    Attributes:
        target: The model under audit.
        decoder: The model that answers.
    """

    def __init__(
        self,
        target: Target | HookedModel,
        decoder: Decoder,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        layer: int | None = None,
    ) -> None:
        """Bring target and decoder together.

        Args:
            target: From ``load_target``, or any ``TransformerBridge`` or ``HookedTransformer`` with raw weights.
            decoder: From ``Decoder.from_pretrained``.
            tokenizer: The target's Hugging Face tokenizer, for a bare model; by default the decoder's, where both
                have the same base.
            layer: The layer to read, for a decoder that reads one of several; None takes its first.

        Raises:
            DecoderMismatch: If the decoder was trained for another model, or not on that layer.
            TargetError: If the model cannot be read.
        """
        self.target = target if isinstance(target, Target) else _wrap(target, decoder, tokenizer)
        self.decoder = decoder.at(layer)
        fingerprint = self.target.fingerprint() if decoder.protocol.target_fingerprint else None
        decoder.protocol.check_target(self.target.d_model, self.target.n_layers, self.target.name, fingerprint)

    @overload
    def ask(
        self,
        dialog: Dialog,
        question: str,
        *,
        reveal: Reveal = ...,
        samples: int = ...,
        max_new_tokens: int = ...,
        seed: int = ...,
    ) -> Answer: ...

    @overload
    def ask(
        self,
        dialog: Dialog,
        question: list[str] | tuple[str, ...],
        *,
        reveal: Reveal = ...,
        samples: int = ...,
        max_new_tokens: int = ...,
        seed: int = ...,
    ) -> list[Answer]: ...

    def ask(
        self,
        dialog: Dialog,
        question: str | list[str] | tuple[str, ...],
        *,
        reveal: Reveal = "user",
        samples: int = 5,
        max_new_tokens: int = 60,
        seed: int = 0,
    ) -> Answer | list[Answer]:
        """Ask about a dialog; several questions read the target once.

        Args:
            dialog: Messages ``{"role", "content"}``; system messages and those with ``"hidden": True`` run in the
                target and are never shown to the decoder.
            question: One question, or several.
            reveal: Whose activations are read: ``"user"``, ``"assistant"``, ``"last:K"`` or token positions.
            samples: Further answers per question, at temperature 1.
            max_new_tokens: Longest answer.
            seed: Of samples and random control.

        Returns:
            An answer per question; a single one for a single question.

        Raises:
            DialogError: If the dialog or the question is malformed, or nothing is revealed.
            ActivationError: If the target computes values that are not finite.
        """
        questions = [question] if isinstance(question, str) else list(question)
        if not questions or not all(q.strip() for q in questions):
            raise DialogError(
                "the question is empty; expected a sentence such as 'What was the assistant told to do?'."
            )
        if samples < 0 or max_new_tokens < 1 or seed < 0:
            raise DialogError(
                f"got samples={samples}, max_new_tokens={max_new_tokens}, seed={seed}; expected at least 0, 1 and 0."
            )
        reading = self.read(dialog, reveal=reveal)
        answers = self.ask_reading(reading, questions, samples=samples, max_new_tokens=max_new_tokens, seed=seed)
        return answers[0] if isinstance(question, str) else answers

    def ask_reading(
        self, reading: Reading, questions: Sequence[str], *, samples: int = 5, max_new_tokens: int = 60, seed: int = 0
    ) -> list[Answer]:
        """Ask about what ``read`` returned; the target does not run again. Settings as in ``ask``."""
        texts = self._answer(reading.activations, questions, max_new_tokens, 0.0, seed)
        repeated = [q for q in questions for _ in range(samples)]
        drawn = self._answer(reading.activations, repeated, max_new_tokens, 1.0, seed) if samples else []
        return [
            self._judge(reading, q, text, tuple(drawn[index * samples : (index + 1) * samples]), seed)
            for index, (q, text) in enumerate(zip(questions, texts, strict=True))
        ]

    def read(self, dialog: Dialog, *, reveal: Reveal = "user") -> Reading:
        """Run the target once over a dialog, once over its decoys, and keep what the decoder may see.

        The dialog runs alone and unpadded, so that hooks of your own on the target's positions find them; they run on
        the decoys, too, which are padded on the left.

        Raises:
            DialogError: If the dialog is malformed, or nothing is revealed.
        """
        tokenizer, protocol = self.target.tokenizer, self.decoder.protocol
        rendered = render(dialog, tokenizer)
        chosen = protocol.select(rendered, reveal)
        own = read(self.target, [rendered], [chosen], protocol.read_layers)
        decoys = [render(decoy, tokenizer) for decoy in decoy_dialogs(dialog)]
        positions = [same_place(chosen, rendered, decoy) for decoy in decoys]
        return Reading(rendered, own, read(self.target, decoys, positions, protocol.read_layers))

    def weigh(self, dialog: Dialog, claims: Sequence[str], *, reveal: Reveal = "user") -> list[Claim]:
        """Say how likely it is that each claim describes what is hidden in a dialog.

        Claims are compared with what the decoder's ``reference`` makes of them, or with the decoys where it has none or
        something else is revealed than it holds. What the visible turns alone speak for counts, too: see ``controls``.

        Args:
            dialog: As in ``ask``.
            claims: Such as ``"persona: pirate"`` or ``"Please talk like a pirate."``
            reveal: As in ``ask``.

        Raises:
            DialogError: If the dialog or a claim is malformed, or nothing is revealed.
        """
        if not claims or not all(claim.strip() for claim in claims):
            raise DialogError("a claim is empty; expected a sentence such as 'Please talk like a pirate.'.")
        reading = self.read(dialog, reveal=reveal)
        reference = self.decoder.reference if reveal == "user" else None
        return weigh(self.decoder, reading.activations, reading.decoys, claims, reference=reference)

    def _answer(
        self, activations: Activations, questions: Sequence[str], max_new_tokens: int, temperature: float, seed: int
    ) -> list[str]:
        rows = activations.rows([0] * len(questions))
        return self.decoder.answer(rows, questions, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)

    @torch.no_grad()
    def _judge(self, reading: Reading, question: str, text: str, samples: tuple[str, ...], seed: int) -> Answer:
        true = self._score(reading.activations, question, text)
        controls = {
            "no_activation": self._score(reading.activations, question, text, injected=False),
            "null": self._score(null_activations(reading.activations, self.decoder.write, seed=seed), question, text),
            "shuffled": self._score(reading.decoys, question, text),
        }
        for name, reader in text_readers(self.decoder).items():
            controls[name] = self._best(reader.logprob([reading.rendered.visible_text], [question], [text]))
        strongest = max(controls.values(), key=lambda scores: scores.mean())
        positions = reading.activations.positions[0].tolist()
        tokens = self.target.tokenizer.batch_decode(reading.activations.token_ids[0][:, None])
        return Answer(
            question=question,
            text=text,
            score=float(true.mean()),
            controls={name: float(scores.mean()) for name, scores in controls.items()},
            lift=float((true - strongest).mean()),
            interval=bootstrap_interval(true - strongest, seed=seed),
            threshold=self.decoder.protocol.lift_threshold,
            samples=samples,
            agreement=agreement(text, samples),
            layers=reading.activations.layers,
            positions=tuple(positions),
            tokens=tuple(tokens),
            seed=seed,
            target=self.target.name,
            decoder=self.decoder.protocol.name,
        )

    def _score(
        self, activations: Activations, question: str, text: str, *, injected: bool = True
    ) -> npt.NDArray[np.float64]:
        """Per-token log-probabilities of one answer, under the row of activations that favours it most.

        A mean over controls would pass an answer that is right about nothing but what half of them share.
        """
        n = len(activations)
        return self._best(self.decoder.logprob(activations, [question] * n, [text] * n, injected=injected))

    @staticmethod
    def _best(scores: Sequence[torch.Tensor]) -> npt.NDArray[np.float64]:
        best: npt.NDArray[np.float64] = max(scores, key=lambda score: float(score.mean())).double().cpu().numpy()
        return best


def _wrap(model: HookedModel, decoder: Decoder, tokenizer: PreTrainedTokenizerBase | None) -> Target:
    """Make a target of a bare TransformerLens model; its own tokenizer would add a second BOS."""
    name = str(getattr(model.cfg, "model_name", None) or decoder.protocol.target)
    return Target(model, tokenizer or decoder.tokenizer, name)
