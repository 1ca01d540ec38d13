"""The text baselines: models that read the visible text instead of activations, as controls of a decoder.

- ``text_only`` is the base model without a LoRA; for a decoder that is a whole model, that model itself.
- ``text_trained`` has a LoRA of the decoder's shape that was trained to answer from the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from audit_lit.decoder.config import DecoderConfig
from audit_lit.decoder.generation import LanguageModel
from audit_lit.decoder.prompt import Prompt, as_user, collate
from audit_lit.decoder.scoring import score, score_many
from audit_lit.models.generation import Sampling

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase


def text_prompt(visible_text: str, question: str) -> str:
    """Return the message that asks a model about a dialog of which it has the visible text alone."""
    return f"Here is a conversation with an AI assistant:\n\n{visible_text}\n\n{question}"


class TextBaseline(LanguageModel):
    """Answers questions about visible text with its LoRA, or with the base model alone if ``trained`` is false."""

    def __init__(
        self, model: PeftModel, tokenizer: PreTrainedTokenizerBase, config: DecoderConfig, *, trained: bool = True
    ) -> None:
        super().__init__(model, tokenizer, config)
        self.trained = trained

    def loss(self, texts: Sequence[str], questions: Sequence[str], answers: Sequence[str]) -> Float[Tensor, ""]:
        """Return the mean cross-entropy in nats per answer token; differentiable."""
        ids = [self.answer_ids(answer) for answer in answers]
        batch = collate(self._prompts(texts, questions, max(map(len, ids))), ids, self.pad)
        with self._adapter():
            return -torch.cat(score(self.model, batch.to(self.device))).mean()

    def logprob(
        self, texts: Sequence[str], questions: Sequence[str], answers: Sequence[str]
    ) -> list[Float[Tensor, " answer"]]:
        """Return the log-probability in nats of each token of each given answer, its end token included.

        There is no gradient. A text and question that occur several times are computed once.
        """
        ids = [self.answer_ids(answer) for answer in answers]
        prompts = self._prompts(texts, questions, max(map(len, ids)))
        index_of = {prompt: index for index, prompt in enumerate(dict.fromkeys(prompts))}
        pairs = [(index_of[prompt], answer) for prompt, answer in zip(prompts, ids, strict=True)]
        with self._adapter():
            return score_many(self.model, list(index_of), pairs, self.pad)

    def answer(self, texts: Sequence[str], questions: Sequence[str], *, max_new_tokens: int = 60) -> list[str]:
        """Return the likeliest answer to each question about each text."""
        prompts = self._prompts(texts, questions, max_new_tokens)
        with self._adapter():
            return [text for (text,) in self.generate(prompts, Sampling(max_new_tokens))]

    def _adapter(self) -> AbstractContextManager[None]:
        has_adapter = hasattr(self.model, "disable_adapter")  # a decoder may be a whole model
        return self.model.disable_adapter() if has_adapter and not self.trained else nullcontext()

    def _prompts(self, texts: Sequence[str], questions: Sequence[str], n_new: int) -> list[Prompt]:
        pairs = zip(texts, questions, strict=True)
        inputs = [as_user(text_prompt(text, question), self.tokenizer) for text, question in pairs]
        rows = [self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in inputs]
        prompts = [Prompt(tuple(row), (False,) * len(row)) for row in rows]
        self.check_length(prompts, n_new)
        return prompts
