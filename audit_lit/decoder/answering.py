"""A language model with activations in the slots of its prompt: it answers questions about them, and scores answers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audit_lit.chat.arguments import texts
from audit_lit.chat.vocabulary import DESCRIPTION_QUESTION
from audit_lit.decoder.config import DecoderConfig
from audit_lit.decoder.generation import LanguageModel
from audit_lit.decoder.prefix_cache import no_injection
from audit_lit.decoder.prompt import Prompt, build_prompt, collate
from audit_lit.decoder.scoring import score, score_many
from audit_lit.errors import ActivationError, DecoderMismatch, QuestionError
from audit_lit.hooks import inject, input_hook, output_hook
from audit_lit.models.activations import Activations
from audit_lit.models.blocks import decoder_blocks
from audit_lit.models.generation import Sampling

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Candidate:
    """An answer to score, about one row of activations; ``injected=False`` leaves the slots empty."""

    row: int
    question: str
    answer: str
    injected: bool = True


class AnsweringModel(LanguageModel):
    """Answers questions about activations, and scores given answers (see ``Decoder``)."""

    def __init__(
        self, model: PeftModel, tokenizer: PreTrainedTokenizerBase, config: DecoderConfig, write: nn.Module
    ) -> None:
        """Find the block that is written to.

        Raises:
            DecoderMismatch: If the base has no block ``config.write_layer``.
            DecoderConfigError: If the tokenizer does not have the tokens that the configuration names.
        """
        blocks = decoder_blocks(model)
        if config.write_layer >= len(blocks):
            raise DecoderMismatch(
                f"the decoder writes at block {config.write_layer}, but its base has {len(blocks)}; load the base that "
                f"it was trained on ({config.base})."
            )
        super().__init__(model, tokenizer, config)
        build_prompt(config, tokenizer, DESCRIPTION_QUESTION, 1)  # raises if its slots are no tokens
        self._block = blocks[config.write_layer]
        self.write = write.to(next(self._block.parameters()).device)

    def check_activations(self, activations: Activations) -> None:
        """Raise unless these activations have the width and layers that the decoder was trained on.

        Raises:
            DecoderMismatch: If they do not.
        """
        if not isinstance(activations, Activations):
            raise ActivationError(f"got {activations!r:.80} for activations; expected those of Auditor.read(dialog).")
        known, layers = self.config.read_layers, activations.layers
        fits = len(layers) == 1 and layers[0] in known if self.config.layer_choice == "one" else layers == known
        if activations.resid.shape[-1] != self.config.d_model or not fits:
            raise DecoderMismatch(
                f"decoder {self.config.name!r} reads {self.config.layer_choice} of layers {list(known)}, of width "
                f"{self.config.d_model}; got {list(layers)} of width {activations.resid.shape[-1]}. Read them at "
                "decoder.config.read_layers, or choose one layer by decoder.for_layer(layer)."
            )
        if self.config.positions == "last" and bool((activations.mask.sum(1) != 1).any()):
            raise DecoderMismatch(
                f"decoder {self.config.name!r} reads one position at a time; got {int(activations.mask.sum(1).max())}. "
                "Reveal one, such as reveal='last:1'."
            )

    def answer(
        self,
        activations: Activations,
        questions: Sequence[str],
        *,
        max_new_tokens: int | None = None,
        temperature: float = 0.0,
        seed: int = 0,
        injected: bool = True,
    ) -> list[str]:
        """Return one answer per row.

        Args:
            activations: One row per question.
            questions: The question about each row.
            max_new_tokens: Length of the longest answer in tokens; None takes the decoder's own, else 60.
            temperature: 0 takes the likeliest token; otherwise the answer is sampled.
            seed: Of the sampling; the global random state is left as it was.
            injected: False leaves the slots empty (the control ``no_activation``).

        Raises:
            ActivationError: If there is not a row of activations for each question.
            QuestionError: If a question is empty, or does not fit the decoder's context with its answer.
        """
        sampling = Sampling(self.longest(max_new_tokens), temperature, seed=seed)
        return [text for (text,) in self.answers(activations, questions, sampling, injected=injected)]

    def answers(
        self, activations: Activations, questions: Sequence[str], sampling: Sampling, *, injected: bool = True
    ) -> list[tuple[str, ...]]:
        """Return for each row an answer, followed by ``sampling.samples`` samples (see ``answer``)."""
        prompts = self._prompts(activations, questions)
        injection = partial(self._inject_rows, activations, range(len(activations))) if injected else no_injection
        return self.generate(prompts, sampling, injection)

    def logprob(
        self, activations: Activations, questions: Sequence[str], answers: Sequence[str], *, injected: bool = True
    ) -> list[Float[Tensor, " answer"]]:
        """Return the log-probability in nats of each token of each given answer, its end token included.

        Differentiable with respect to the activations.

        Args:
            activations: One row per question.
            questions: The question about each row.
            answers: The answer to score in each row.
            injected: False leaves the slots empty (the control ``no_activation``).
        """
        prompts = self._prompts(activations, questions)
        ids = [self.answer_ids(answer) for answer in texts(answers, "answer", QuestionError)]
        if len(ids) != len(prompts):
            raise QuestionError(f"got {len(ids)} answers for {len(prompts)} questions; expected one for each.")
        self.check_length(prompts, max(map(len, ids)))
        batch = collate(prompts, ids, self.pad).to(self.device)
        return score(self.model, batch, partial(self._inject, activations) if injected else lambda _: nullcontext())

    def loss(self, activations: Activations, questions: Sequence[str], answers: Sequence[str]) -> Float[Tensor, ""]:
        """Return the mean cross-entropy in nats per answer token; differentiable with respect to the activations."""
        return -torch.cat(self.logprob(activations, questions, answers)).mean()

    def score_candidates(
        self, activations: Activations, candidates: Sequence[Candidate]
    ) -> list[Float[Tensor, " answer"]]:
        """Score any number of answers as ``logprob`` does, but without a gradient, and each shared prompt once.

        Raises:
            QuestionError: If a prompt and its answer do not fit the decoder's context.
        """
        if not candidates:
            return []
        self.check_activations(activations)
        rows = activations.rows([candidate.row for candidate in candidates])
        prompts = self._prompts(rows, [candidate.question for candidate in candidates])
        answers = [self.answer_ids(candidate.answer) for candidate in candidates]
        self.check_length(prompts, max(map(len, answers)))
        keys = [  # without activations, no row and no slots
            (candidate.row, prompt)
            if candidate.injected
            else (None, replace(prompt, slots=(False,) * len(prompt.slots)))
            for candidate, prompt in zip(candidates, prompts, strict=True)
        ]
        index_of = {key: index for index, key in enumerate(dict.fromkeys(keys))}
        injection = partial(self._inject_rows, activations, [row for row, _ in index_of])
        pairs = [(index_of[key], answer) for key, answer in zip(keys, answers, strict=True)]
        return score_many(self.model, [prompt for _, prompt in index_of], pairs, self.pad, injection)

    def score_choices(
        self, activations: Activations, question: str, answers: Sequence[str], *, injected: bool = True
    ) -> list[Float[Tensor, " answer"]]:
        """Score many answers to one question about one row, without a gradient; the prompt is computed once."""
        listed = texts(answers, "answer", QuestionError)
        return self.score_candidates(activations, [Candidate(0, question, answer, injected) for answer in listed])

    def _prompts(self, activations: Activations, questions: Sequence[str]) -> list[Prompt]:
        self.check_activations(activations)
        questions = texts(questions, "question", QuestionError)
        if len(activations) != len(questions):
            raise ActivationError(
                f"got {len(activations)} rows of activations for {len(questions)} questions; expected one row for each."
            )
        first = activations.n_hidden.tolist() if self.config.shift_positions else [0] * len(questions)
        build = cache(partial(build_prompt, self.config, self.tokenizer, layers=activations.layers))
        rows = zip(questions, activations.mask.sum(1).tolist(), first, strict=True)
        return [replace(build(question, n_slots), first=position) for question, n_slots, position in rows]

    def _inject(self, activations: Activations, slots: Tensor) -> AbstractContextManager[None]:
        vectors, layer_index = activations.vectors()
        if self.config.layer_choice == "one":
            layer_index = layer_index + self.config.read_layers.index(activations.layers[0])
        hook = input_hook if self.config.write == "embed" else output_hook
        return hook(self._block, inject(self.write, vectors, slots, layer_index))

    def _inject_rows(
        self, activations: Activations, rows: Sequence[int | None], indices: Sequence[int], slots: Tensor
    ) -> AbstractContextManager[None]:
        """Fill the slots of the prompts at ``indices``, each from its row; a prompt without slots has the row None."""
        injected = [row for row in (rows[index] for index in indices) if row is not None]
        return self._inject(activations.rows(injected), slots) if injected else nullcontext()
